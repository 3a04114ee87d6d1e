//! Writing status: only the status subresource, and only when something changed.
//!
//! Every write carries the resource version it was computed from; when the object changed in the
//! meantime, it is read again and the change is computed anew. Fails when the object is gone, has
//! been replaced by another of the same name, or keeps changing.

use std::fmt::Debug;

use kube::api::PostParams;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result, is_conflict, is_not_found};

/// Name under which the operator owns fields.
pub(crate) const FIELD_MANAGER: &str = "ark-operator";

/// How often a write is tried again when others change the object as well.
const ATTEMPTS: u32 = 8;

/// Changes the status of the object `name` with `change`, which gets the newest state and returns
/// whether it changed anything worth writing. Returns the object as it then is.
///
/// `uid` protects against an object of the same name that was created later.
pub(crate) async fn update<K, F>(api: &Api<K>, name: &str, uid: &str, mut change: F) -> Result<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + PartialEq + Serialize + DeserializeOwned,
    F: FnMut(&mut K),
{
    let kind = K::kind(&()).into_owned();
    for _ in 0..ATTEMPTS {
        let before = match api.get(name).await {
            Ok(object) => object,
            Err(error) if is_not_found(&error) => return Err(gone(&kind, name)),
            Err(error) => return Err(Error::kube(format!("get {kind} {name}"))(error)),
        };
        if before.uid().as_deref() != Some(uid) {
            return Err(gone(&kind, name));
        }
        let mut after = before.clone();
        change(&mut after);
        if after == before {
            return Ok(before);
        }
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        match api.replace_status(name, &params, &after).await {
            Ok(written) => return Ok(written),
            Err(error) if is_conflict(&error) => {}
            Err(error) if is_not_found(&error) => return Err(gone(&kind, name)),
            Err(error) => {
                return Err(Error::kube(format!("write the status of {kind} {name}"))(
                    error,
                ));
            }
        }
    }
    Err(Error::Waiting(format!(
        "the status of {kind} {name} could not be written: it changed {ATTEMPTS} times in the meantime"
    )))
}

/// The object was deleted while it was being worked on.
fn gone(kind: &str, name: &str) -> Error {
    Error::Permanent {
        message: format!("{kind} {name} was deleted in the meantime"),
        hint: "nothing needs to be done if that was intended",
    }
}
