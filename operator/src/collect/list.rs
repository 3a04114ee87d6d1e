//! Pages of objects as plain JSON.
//!
//! Objects are read as they are, without a type, so that one that looks unusual is still backed up, and
//! with their own text, so that nothing in them is changed. A page is tried again a few times; what then still fails is an error for the caller to make a row of.
//! Answers are parsed here and not by the client, which would log the text of one it cannot parse.

use std::time::Duration;

use kube::Client;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::discovery::Kind;
use crate::error::{Class, Error, Result};
use crate::json::Document;

/// Objects of a page.
const PAGE: u32 = 500;
/// How often a request is tried.
const ATTEMPTS: u32 = 4;
/// Pause after the first failure; doubles.
const PAUSE: Duration = Duration::from_millis(300);

/// A page of objects.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Its objects.
    pub(crate) items: Vec<Document>,
    /// Where the next page begins.
    pub(crate) next: Option<String>,
}

/// Objects of a kind, of one namespace or all, that `selector` matches, from `start` on.
pub(crate) async fn page(
    client: &Client,
    kind: &Kind,
    namespace: Option<&str>,
    selector: Option<&str>,
    start: Option<&str>,
) -> Result<Page> {
    let mut query = vec![format!("limit={PAGE}")];
    query.extend(selector.map(|text| format!("labelSelector={}", encode(text))));
    query.extend(start.map(|text| format!("continue={}", encode(text))));
    let path = format!("{}?{}", kind.path(namespace), query.join("&"));
    let what = match namespace {
        Some(namespace) => format!("list {} of namespace {namespace}", kind.resource()),
        None => format!("list {}", kind.resource()),
    };
    let text = fetch(client, &path, &what).await?;
    let Body { metadata, items } = serde_json::from_str(&text).map_err(unreadable(&what))?;
    let items: Result<_, _> = items.into_iter().map(Document::try_from).collect();
    Ok(Page {
        items: items.map_err(unreadable(&what))?,
        next: metadata.next.filter(|text| !text.is_empty()),
    })
}

/// The answer to a list.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(default)]
    metadata: Metadata,
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(rename = "continue")]
    next: Option<String>,
}

/// Position only: the text may hold secrets.
fn unreadable(what: &str) -> impl FnOnce(serde_json::Error) -> Error {
    move |error| Error::Malformed {
        what: format!("the answer to: {what}"),
        message: format!(
            "no JSON of the expected form at line {}, column {}",
            error.line(),
            error.column()
        ),
    }
}

/// One object; `None` if there is none.
pub(crate) async fn get(
    client: &Client,
    kind: &Kind,
    namespace: Option<&str>,
    name: &str,
) -> Result<Option<Document>> {
    let path = format!("{}/{}", kind.path(namespace), encode(name));
    let what = format!("get {} {name}", kind.resource());
    match fetch(client, &path, &what).await {
        Ok(text) => Document::read(&text).map(Some).map_err(unreadable(&what)),
        Err(Error::Kube { source, .. }) if crate::error::is_not_found(&source) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a list has to start again because its first page is too old.
pub(crate) fn is_expired(error: &Error) -> bool {
    matches!(error, Error::Kube { source, .. } if crate::error::status_code(source) == Some(410))
}

async fn fetch(client: &Client, path: &str, what: &str) -> Result<String> {
    let mut pause = PAUSE;
    for attempt in 1.. {
        let request = http_request(path)?;
        let error = match client.request_text(request).await {
            Ok(text) => return Ok(text),
            Err(error) => Error::kube(what)(error),
        };
        if attempt >= ATTEMPTS || error.class() != Class::Transient {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    Err(Error::Bug("an endless loop ended".to_owned()))
}

fn http_request(path: &str) -> Result<axum::http::Request<Vec<u8>>> {
    axum::http::Request::get(path)
        .body(Vec::new())
        .map_err(|error| Error::Bug(format!("request {path}: {error}")))
}

/// Percent-encodes everything that could end a query value or a path segment.
pub(crate) fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            write!(out, "%{byte:02X}").unwrap_or_default();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_encoded() {
        assert_eq!(encode("app in (a,b)"), "app%20in%20%28a%2Cb%29");
        assert_eq!(encode("../x?y=1&z#"), "..%2Fx%3Fy%3D1%26z%23");
        assert_eq!(encode("system:node"), "system:node");
    }
}
