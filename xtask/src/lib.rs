//! Tasks of the Ark workspace, and the cluster its tests run on.
//!
//! `cargo xtask` is the command; the library half is what the tests of the workspace use: a control
//! plane without a node ([`cluster::ControlPlane`]), a whole cluster ([`cluster::Cluster`]), the
//! tools they are made of ([`tools`]) and the images that run on them ([`image`]).

pub mod bench;
pub mod cluster;
pub mod cluster_command;
pub mod deny;
pub mod exec;
pub mod fuzz;
pub mod generate;
pub mod http;
pub mod image;
pub mod install;
pub mod lint;
pub mod place;
pub mod print;
pub mod programs;
pub mod quickstart;
pub mod test;
pub mod tools;
pub mod wait;
