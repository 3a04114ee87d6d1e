//! Unpacking and transfer of artefacts.

use std::io::Write;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn wanted() -> Wanted {
    Wanted {
        artefact: BACKUP_LOG,
        owner: "backup \"b\"".into(),
    }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn unpacking_is_bounded() {
    assert_eq!(gunzip(b"plain", 10).unwrap(), b"plain");
    assert_eq!(gunzip(&gzip(b"packed"), 10).unwrap(), b"packed");
    let two = [gzip(b"one"), gzip(b"two")].concat();
    assert_eq!(gunzip(&two, 10).unwrap(), b"onetwo");
    assert!(gunzip(&gzip(&[0; 11]), 10).is_err());
    let mut cut = gzip(b"some text that is long enough");
    cut.truncate(cut.len() - 9);
    assert!(gunzip(&cut, 100).is_err());
}

/// Answers one request with `answer` and returns what was asked.
async fn serve(answer: &'static [u8]) -> (Result<Vec<u8>>, String) {
    let (client, mut server) = tokio::io::duplex(4096);
    let asked = tokio::spawn(async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(server.read_u8().await.unwrap());
        }
        server.write_all(answer).await.unwrap();
        drop(server);
        String::from_utf8(head).unwrap()
    });
    let body = get(client, &wanted(), "/v1/artefacts/x", "secret").await;
    let result = match body {
        Ok(body) => {
            Transfer {
                what: wanted(),
                body,
            }
            .all()
            .await
        }
        Err(error) => Err(error),
    };
    (result, asked.await.unwrap())
}

#[tokio::test]
async fn token_is_presented_and_body_read() {
    let (body, asked) =
        serve(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n").await;
    assert_eq!(body.unwrap(), b"abc");
    assert!(
        asked.starts_with("GET /v1/artefacts/x HTTP/1.1\r\n"),
        "{asked}"
    );
    assert!(
        asked.contains("authorization: Bearer secret\r\n"),
        "{asked}"
    );
}

#[tokio::test]
async fn a_cut_transfer_is_an_error() {
    let (body, _) =
        serve(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    assert!(body.unwrap_err().to_string().contains("the transfer broke"));
    let (body, _) = serve(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc").await;
    assert!(body.unwrap_err().to_string().contains("the transfer broke"));
}

#[tokio::test]
async fn a_refusal_is_told_without_the_token() {
    let (body, _) = serve(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 11\r\n\r\nwrong token").await;
    let error = body.unwrap_err();
    let text = crate::print::error_text(&error);
    assert!(text.contains("403 Forbidden: wrong token"), "{text}");
    assert!(!text.contains("secret"));
}
