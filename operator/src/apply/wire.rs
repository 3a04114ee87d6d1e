//! Requests about objects of one resource, as text.
//!
//! Objects go as the bytes they are given, so that nothing in them is decoded on the way, and are
//! checked strictly: a field that the cluster does not know is not dropped in silence. The object
//! is then sent without the check, and [`Sent::lost`] names what the server drops.
//!
//! Answers are decoded here and not by the client, which would log the text of one it cannot
//! decode.

use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, Request};
use kube::api::DynamicObject;
use kube::{Client, Resource as _};
use serde_json::Value;

use super::discover::Target;
use crate::collect::list::encode;

/// What the API server says before it names the fields that it refuses.
const STRICT: &str = "strict decoding error: ";
/// Most characters of such fields that are told.
const MAX_LOST: usize = 1000;

/// Objects of one resource in one namespace, or cluster-scoped ones.
pub(crate) struct Endpoint {
    client: Client,
    path: String,
}

/// An object that the server took.
#[derive(Debug)]
pub(crate) struct Sent {
    /// As it is now.
    pub(crate) object: Value,
    /// Fields that the server does not know and has dropped, as it names them.
    pub(crate) lost: Option<String>,
}

/// Who owns the fields that are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manager<'a>(pub(crate) &'a str);

impl Endpoint {
    /// Objects of `target` in `namespace`.
    pub(crate) fn new(client: Client, target: &Target, namespace: Option<&str>) -> Self {
        Self {
            client,
            path: DynamicObject::url_path(&target.resource, namespace),
        }
    }

    /// Creates an object.
    pub(crate) async fn create(&self, body: Vec<u8>, manager: Manager<'_>) -> kube::Result<Sent> {
        let send = |checks| self.send(Method::POST, "", "application/json", &body, manager, checks);
        strictly(send).await
    }

    /// Changes an object by a JSON merge patch.
    pub(crate) async fn patch(
        &self,
        name: &str,
        body: Vec<u8>,
        manager: Manager<'_>,
    ) -> kube::Result<Sent> {
        let name = format!("/{}", encode(name));
        let mime = "application/merge-patch+json";
        let send = |checks| self.send(Method::PATCH, &name, mime, &body, manager, checks);
        strictly(send).await
    }

    /// An object; `None` if there is none.
    pub(crate) async fn get(&self, name: &str) -> kube::Result<Option<Value>> {
        let request = Request::get(format!("{}/{}", self.path, encode(name))).body(Vec::new());
        match self.ask(request).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if crate::error::is_not_found(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn send(
        &self,
        method: Method,
        name: &str,
        mime: &str,
        body: &[u8],
        Manager(manager): Manager<'_>,
        checks: &str,
    ) -> kube::Result<Value> {
        let request = Request::builder()
            .method(method)
            .uri(format!(
                "{}{name}?fieldManager={}&fieldValidation={checks}",
                self.path,
                encode(manager)
            ))
            .header(CONTENT_TYPE, mime)
            .body(body.to_vec());
        self.ask(request).await
    }

    async fn ask(&self, request: axum::http::Result<Request<Vec<u8>>>) -> kube::Result<Value> {
        let request = request.map_err(kube::Error::HttpError)?;
        let text = self.client.request_text(request).await?;
        serde_json::from_str(&text).map_err(kube::Error::SerdeError)
    }
}

/// Sends with strict checks, and without them when these are all that fails.
async fn strictly<'a, F>(send: impl Fn(&'a str) -> F) -> kube::Result<Sent>
where
    F: Future<Output = kube::Result<Value>>,
{
    let error = match send("Strict").await {
        Ok(object) => return Ok(Sent { object, lost: None }),
        Err(error) => error,
    };
    let Some(lost) = refused_fields(&error) else {
        return Err(error);
    };
    let object = send("Ignore").await?;
    let lost = Some(lost);
    Ok(Sent { object, lost })
}

/// The fields for which alone an object was refused.
fn refused_fields(error: &kube::Error) -> Option<String> {
    let kube::Error::Api(status) = error else {
        return None;
    };
    // What stands before may repeat the object, with its secrets.
    let (_, fields) = status.message.split_once(STRICT)?;
    Some(fields.chars().take(MAX_LOST).collect())
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn only_fields_are_told() {
        let error = |message: &str| {
            kube::Error::Api(Box::new(
                Status::failure(message, "BadRequest").with_code(400),
            ))
        };
        let strict = error(
            "TGizmo in version \"v1\" cannot be handled as a TGizmo: strict decoding error: unknown field \"spec.a\"",
        );
        assert_eq!(
            refused_fields(&strict).as_deref(),
            Some("unknown field \"spec.a\"")
        );
        assert_eq!(refused_fields(&error("no such field")), None);
    }
}
