//! What an S3 service answers to a listing is a listing, or an error.
//!
//! OpenDAL reads the elements it knows and goes without the rest: a page of a proxy, or an error
//! with status 200, would be an empty listing, and a truncated one without a way to go on would
//! begin anew for ever. Does: look at each answer before it is read. Does not: take it apart.

use futures::stream;
use http::{Method, Request, Response};
use opendal::{Buffer, Error, ErrorKind, HttpBody, HttpTransport, Result};
use opendal_http_transport_reqwest::ReqwestTransport;

/// Sends requests, and looks at the answers to listings.
#[derive(Debug, Clone)]
pub(super) struct Strict(pub(super) ReqwestTransport);

impl HttpTransport for Strict {
    async fn fetch(&self, request: Request<Buffer>) -> Result<Response<HttpBody>> {
        let query = request.uri().query().unwrap_or_default();
        let lists = query.split('&').any(|part| part.starts_with("list-type="));
        let is_listing = lists && request.method() == Method::GET;
        let response = self.0.fetch(request).await?;
        if !is_listing || !response.status().is_success() {
            return Ok(response);
        }
        let (parts, mut body) = response.into_parts();
        let buffer = body.to_buffer().await?;
        check(&buffer.to_bytes()).map_err(|why| {
            Error::new(
                ErrorKind::Unexpected,
                format!("the answer to a listing is none: {why}"),
            )
            .set_temporary()
        })?;
        let size = buffer.len() as u64;
        let body = HttpBody::new(stream::iter([Ok(buffer)]), Some(size));
        Ok(Response::from_parts(parts, body))
    }
}

/// Why a document is no listing, or none that can be relied on.
fn check(document: &[u8]) -> std::result::Result<(), &'static str> {
    let text = String::from_utf8_lossy(document);
    let body = text
        .find("<ListBucketResult")
        .filter(|at| {
            // Nothing but what a document may begin with.
            text[..*at].trim_start_matches('\u{feff}').trim().is_empty()
                || text[..*at].contains("<?xml")
        })
        .map(|at| &text[at..]);
    let Some(body) = body.filter(|_| text.trim_end().ends_with("</ListBucketResult>")) else {
        return Err("it is not a ListBucketResult");
    };
    let value = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        Some(rest.split_once('<')?.0.trim())
    };
    match (value("IsTruncated"), value("NextContinuationToken")) {
        (Some("true"), None | Some("")) => Err("it is truncated, and does not say how it goes on"),
        // Some services leave it out of a listing that is complete.
        (Some("true" | "false") | None, _) => Ok(()),
        (Some(_), _) => Err("it says neither that it is truncated nor that it is not"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listings_are_listings() {
        let head = r#"<?xml version="1.0" encoding="UTF-8"?>"#;
        let list = |inner: &str| {
            format!(
                "{head}\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{inner}</ListBucketResult>\n"
            )
        };
        for good in [
            list("<IsTruncated>false</IsTruncated>"),
            list("<Name>b</Name>"),
            list("<IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>"),
            "<ListBucketResult></ListBucketResult>".to_owned(),
        ] {
            assert_eq!(check(good.as_bytes()), Ok(()), "{good}");
        }
        for bad in [
            String::new(),
            "{}".to_owned(),
            "<html><body>Log in to go on</body></html>".to_owned(),
            format!("{head}<Error><Code>SlowDown</Code></Error>"),
            list("<IsTruncated>true</IsTruncated>"),
            list("<IsTruncated>true</IsTruncated><NextContinuationToken></NextContinuationToken>"),
            list("")[..100].to_owned(),
        ] {
            assert!(check(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
