//! A backup's whole life on a real node with a real object store: scheduled and expired, deleted
//! with its space given back, maintained beside a running backup, cancelled in the middle, and
//! found by a cluster that knows nothing.
//!
//! All scenarios share one cluster and one installation of Ark, which this target makes anew, and
//! run beside each other, each in a namespace of its own. Only the loss of the cluster (`lost`)
//! needs it alone: it waits until the others have ended.

mod cancel;
mod lost;
mod maintenance;
mod schedule;
mod slow;
mod space;
mod world;
