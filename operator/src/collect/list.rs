//! Pages of objects as plain JSON.
//!
//! Objects are read as they are, without a type, so that one that looks unusual is still backed up,
//! and with their own text, so that nothing in them is changed. A page is tried again a few times;
//! what then still fails is an error for the caller to make a row of. Answers are parsed here and
//! not by the client, which would log the text of one it cannot parse.
//!
//! Memory is bounded by bytes, not by numbers: pages begin small and grow as far as their objects
//! are small ([`PageSize`]); an answer that is larger than a page may be is given up while it
//! arrives, and asked for again in smaller pages.

use std::time::Duration;

use futures::AsyncReadExt as _;
use kube::Client;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::discovery::Kind;
use crate::error::{Class, Error, Result};
use crate::json::Document;

/// Objects of the first page of a list.
const FIRST_PAGE: u32 = 10;
/// Most objects of a page.
const LARGEST_PAGE: u32 = 500;
/// A page has at most this many times the objects of the page before it.
const GROWTH: u32 = 4;
/// Bytes that a page should have.
const GOOD_BYTES: u64 = 4 << 20;
/// Bytes that a page of several objects may have.
const MOST_BYTES: u64 = 16 << 20;
/// Bytes that a single object, or the answer of an API that knows no pages, may have.
const MOST_BYTES_ALONE: u64 = 256 << 20;
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

/// How many objects the next page of a list has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageSize(u32);

impl Default for PageSize {
    fn default() -> Self {
        Self(FIRST_PAGE)
    }
}

impl PageSize {
    /// After a page of `objects` objects and `bytes` bytes.
    fn after(self, objects: usize, bytes: usize) -> Self {
        let each = (bytes / objects.max(1)).max(1) as u64;
        let fitting = u32::try_from(GOOD_BYTES / each).unwrap_or(LARGEST_PAGE);
        let most = self.0.saturating_mul(GROWTH).min(LARGEST_PAGE);
        Self(fitting.clamp(1, most))
    }

    /// After an answer that was larger than a page may be; `None` if it cannot be made smaller.
    fn smaller(self) -> Option<Self> {
        (self.0 > 1).then(|| Self((self.0 / (GROWTH * 2)).max(1)))
    }

    fn most_bytes(self) -> u64 {
        if self.0 == 1 {
            MOST_BYTES_ALONE
        } else {
            MOST_BYTES
        }
    }
}

/// Objects of a kind, of one namespace or all, that `selector` matches, from `start` on. `size` is
/// that of this page, and becomes that of the next one.
pub(crate) async fn page(
    client: &Client,
    kind: &Kind,
    namespace: Option<&str>,
    selector: Option<&str>,
    start: Option<&str>,
    size: &mut PageSize,
) -> Result<Page> {
    let what = match namespace {
        Some(namespace) => format!("list {} of namespace {namespace}", kind.resource()),
        None => format!("list {}", kind.resource()),
    };
    let text = loop {
        let mut query = vec![format!("limit={}", size.0)];
        query.extend(selector.map(|text| format!("labelSelector={}", encode(text))));
        query.extend(start.map(|text| format!("continue={}", encode(text))));
        let path = format!("{}?{}", kind.path(namespace), query.join("&"));
        if let Some(text) = fetch(client, &path, &what, size.most_bytes()).await? {
            break text;
        }
        *size = size.smaller().ok_or_else(|| too_large(&what))?;
    };
    let Body { metadata, items } = serde_json::from_str(&text).map_err(unreadable(&what))?;
    let items: Result<Vec<Document>, _> = items.into_iter().map(Document::try_from).collect();
    let items = items.map_err(unreadable(&what))?;
    *size = size.after(items.len(), text.len());
    Ok(Page {
        items,
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

fn too_large(what: &str) -> Error {
    Error::Malformed {
        what: format!("the answer to: {what}"),
        message: format!("it is larger than {} MiB", MOST_BYTES_ALONE >> 20),
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
    match fetch(client, &path, &what, MOST_BYTES_ALONE).await {
        Ok(Some(text)) => Document::read(&text).map(Some).map_err(unreadable(&what)),
        Ok(None) => Err(too_large(&what)),
        Err(Error::Kube { source, .. }) if crate::error::is_not_found(&source) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a list has to start again because its first page is too old.
pub(crate) fn is_expired(error: &Error) -> bool {
    matches!(error, Error::Kube { source, .. } if crate::error::status_code(source) == Some(410))
}

/// The answer; `None` if it has more than `most` bytes.
async fn fetch(client: &Client, path: &str, what: &str, most: u64) -> Result<Option<String>> {
    let mut pause = PAUSE;
    for attempt in 1.. {
        let error = match answer(client, path, most).await? {
            Ok(answer) if answer.len() as u64 > most => return Ok(None),
            Ok(answer) => {
                let text = String::from_utf8(answer);
                return text
                    .map(Some)
                    .map_err(Error::malformed(format!("the answer to: {what}")));
            }
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

/// One try; at most one byte more than `most` is read.
async fn answer(client: &Client, path: &str, most: u64) -> Result<kube::Result<Vec<u8>>> {
    let request = http_request(path)?;
    let body = match client.request_stream(request).await {
        Ok(body) => body,
        Err(error) => return Ok(Err(error)),
    };
    let mut bytes = Vec::new();
    let body = std::pin::pin!(body);
    let read = body.take(most + 1).read_to_end(&mut bytes).await;
    Ok(read.map(|_| bytes).map_err(kube::Error::ReadEvents))
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
    fn pages_follow_the_size_of_their_objects() {
        let mut size = PageSize::default();
        let mut sizes = vec![size.0];
        for _ in 0..4 {
            size = size.after(size.0 as usize, size.0 as usize * 1000);
            sizes.push(size.0);
        }
        assert_eq!(sizes, [10, 40, 160, 500, 500], "small objects");
        // A megabyte each, and more than a page should have.
        assert_eq!(PageSize(500).after(500, 500 << 20), PageSize(4));
        assert_eq!(PageSize(4).after(4, 20 << 20), PageSize(1));
        assert_eq!(PageSize(1).after(1, 10), PageSize(4));
        assert_eq!(PageSize(10).after(0, 200), PageSize(40));
    }

    #[test]
    fn an_answer_that_is_too_large_is_asked_for_in_smaller_pages() {
        assert_eq!(PageSize(500).smaller(), Some(PageSize(62)));
        assert_eq!(PageSize(3).smaller(), Some(PageSize(1)));
        assert_eq!(PageSize(1).smaller(), None);
        assert!(PageSize(2).most_bytes() < PageSize(1).most_bytes());
    }

    #[tokio::test]
    async fn a_page_that_is_too_large_is_given_up_and_asked_for_again() {
        use std::sync::{Arc, Mutex};

        use axum::http::{Request, Response};
        use kube::client::Body;

        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = asked.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            let several = query != "limit=1";
            heard.lock().unwrap().push(query);
            let filler = " ".repeat(if several { 17 << 20 } else { 0 });
            let body = format!("{{\"items\": [{{\"metadata\": {{\"name\": \"a\"}}}}]{filler}}}");
            async move { Ok::<_, std::io::Error>(Response::new(Body::from(body.into_bytes()))) }
        });
        let client = Client::new(service, "default");
        let kind = Kind {
            group: String::new(),
            version: "v1".to_owned(),
            name: "ConfigMap".to_owned(),
            plural: "configmaps".to_owned(),
            singular: "configmap".to_owned(),
            short_names: Vec::new(),
            namespaced: true,
        };
        let mut size = PageSize::default();
        let page = page(&client, &kind, Some("shop"), None, None, &mut size).await;
        assert_eq!(page.unwrap().items.len(), 1);
        assert_eq!(*asked.lock().unwrap(), ["limit=10", "limit=1"]);
    }

    #[test]
    fn queries_are_encoded() {
        assert_eq!(encode("app in (a,b)"), "app%20in%20%28a%2Cb%29");
        assert_eq!(encode("../x?y=1&z#"), "..%2Fx%3Fy%3D1%26z%23");
        assert_eq!(encode("system:node"), "system:node");
    }
}
