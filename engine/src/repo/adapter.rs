//! Adapter.
use crate::{
    error::{Error, Result},
    format::config::Config,
};
pub(crate) fn new_config() -> Result<Config> {
    Err(Error::Bug(String::new()))
}
