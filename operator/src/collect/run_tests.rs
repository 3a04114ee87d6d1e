//! Collections from an API server that is made up, so that it can misbehave.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::http::{Request, Response, StatusCode};
use kube::client::Body;
use serde_json::json;

use super::*;
use crate::clock::SystemClock;

fn spec(value: Value) -> BackupSpec {
    serde_json::from_value(value).unwrap()
}

#[test]
fn selectors_are_what_the_server_reads() {
    let one = spec(json!({"labelSelector": {"matchLabels": {"app": "nginx"}}}));
    assert_eq!(selectors(&one).unwrap(), [Some("app=nginx".to_owned())]);
    let two = spec(json!({"orLabelSelectors": [
        {"matchLabels": {"a": "1"}},
        {"matchExpressions": [{"key": "b", "operator": "In", "values": ["x", "y"]}]},
    ]}));
    assert_eq!(selectors(&two).unwrap().len(), 2);
    let all = spec(json!({"labelSelector": {}}));
    assert_eq!(selectors(&all).unwrap(), [None]);
    assert_eq!(selectors(&BackupSpec::default()).unwrap(), [None]);
}

/// Answers by path and query, each in turn; the last one stays.
type Answers = HashMap<&'static str, Vec<(u16, String)>>;

fn resource(name: &str, kind: &str, scope: &str) -> Value {
    json!({
        "resource": name, "singularResource": "", "scope": scope,
        "verbs": ["list", "get", "create", "delete"],
        "responseKind": {"group": "", "version": "v1", "kind": kind},
    })
}

fn list(items: &Value, next: &str) -> (u16, String) {
    let body = json!({"kind": "List", "metadata": {"continue": next}, "items": items});
    (200, body.to_string())
}

fn named(namespace: &str, name: &str) -> Value {
    json!({"metadata": {"namespace": namespace, "name": name}})
}

/// Pods, config maps and namespaces `shop` and `heptio-ark`.
fn server() -> Answers {
    let core = json!({"items": [{"metadata": {"name": ""}, "versions": [{"version": "v1", "resources": [
        resource("pods", "Pod", "Namespaced"),
        resource("configmaps", "ConfigMap", "Namespaced"),
        resource("namespaces", "Namespace", "Cluster"),
    ]}]}]});
    let namespaces = json!([{"metadata": {"name": "shop"}}, {"metadata": {"name": "heptio-ark"}}]);
    HashMap::from([
        ("/api", vec![(200, core.to_string())]),
        ("/apis", vec![(200, json!({"items": []}).to_string())]),
        ("/api/v1/namespaces", vec![list(&namespaces, "")]),
        ("/api/v1/namespaces/shop/pods", vec![list(&json!([]), "")]),
        (
            "/api/v1/namespaces/shop/configmaps",
            vec![list(&json!([]), "")],
        ),
    ])
}

/// Path and query of a request without the size of its page.
fn without_limit(uri: &axum::http::Uri) -> String {
    let query: Vec<&str> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|part| !part.is_empty() && !part.starts_with("limit="))
        .collect();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{}{mark}{}", uri.path(), query.join("&"))
}

/// Collects namespace `shop` and returns what was found and the log.
async fn collect(answers: Answers) -> (Result<Collected>, RunLog) {
    let answers = Arc::new(Mutex::new(answers));
    let service = tower::service_fn(move |request: Request<Body>| {
        let answers = answers.clone();
        async move {
            let path = without_limit(request.uri());
            let mut answers = answers.lock().unwrap();
            let (code, body) = match answers.get_mut(path.as_str()) {
                Some(left) if left.len() > 1 => left.remove(0),
                Some(left) => left[0].clone(),
                None => (404, json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": path}).to_string()),
            };
            let answer = Response::builder().status(StatusCode::from_u16(code).unwrap());
            Ok::<_, std::io::Error>(answer.body(Body::from(body.into_bytes())).unwrap())
        }
    });
    let client = Client::new(service, "default");
    let dir = tempfile::tempdir().unwrap();
    let log = RunLog::create("backup/b", dir.path(), Arc::new(SystemClock)).unwrap();
    let sink = Sink::create(&dir.path().join("b.tar.gz"), 0).unwrap();
    let items = AtomicUsize::new(0);
    let collected = Collector {
        client: &client,
        spec: &spec(json!({"includedNamespaces": ["shop"]})),
        sink: &sink,
        log: &log,
        stop: &CancellationToken::new(),
        progress: &|count| items.store(count, Ordering::Relaxed),
    }
    .run("heptio-ark")
    .await;
    sink.finish().await.unwrap();
    (collected, log)
}

#[tokio::test]
async fn objects_without_sense_are_rows_and_the_rest_is_taken() {
    let mut server = server();
    let odd = json!([
        named("shop", "good"),
        {"metadata": {"namespace": "shop"}},
        named("shop", "tab\tbed"),
        {"metadata": {"name": "nowhere"}},
        "not an object",
        named("shop", "good"),
        {"metadata": {"namespace": "shop", "name": "going", "deletionTimestamp": "2026-01-01T00:00:00Z"}},
        {"metadata": {"namespace": "shop", "name": "hidden", "labels": {"ark.heptio.com/exclude-from-backup": "true"}}},
    ]);
    server.insert("/api/v1/namespaces/shop/configmaps", vec![list(&odd, "")]);
    let pods = json!([{"metadata": {"namespace": "shop", "name": "strange"}, "spec": {"containers": "none"}}]);
    server.insert("/api/v1/namespaces/shop/pods", vec![list(&pods, "")]);
    let (collected, log) = collect(server).await;
    let collected = collected.unwrap();
    assert_eq!(
        collected.resource_list["v1/ConfigMap"],
        ["shop/good", "shop/tab\tbed"]
    );
    // The pod is kept as it is; only its volumes cannot be judged, which is said.
    assert_eq!(collected.resource_list["v1/Pod"], ["shop/strange"]);
    assert_eq!(collected.items, 4);
    let errors = log.results().errors;
    assert_eq!(errors.len(), 2, "{errors:?}");
    let warnings = log.results().warnings;
    assert_eq!(
        warnings.namespaces["shop"],
        ["configmaps going is being deleted and is not in the backup"]
    );
    assert!(
        errors.namespaces["shop"]
            .iter()
            .any(|e| e.contains("no sensible name"))
    );
    assert!(
        errors.namespaces["shop"]
            .iter()
            .any(|e| e.contains("unusual form"))
    );
}

#[tokio::test]
async fn a_kind_that_cannot_be_listed_is_a_row() {
    for (code, body) in [
        (403, json!({"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden", "message": "no"}).to_string()),
        (200, "{\"items\": [".to_owned()),
        (200, json!({"items": "none"}).to_string()),
    ] {
        let mut server = server();
        server.insert("/api/v1/namespaces/shop/configmaps", vec![(code, body.clone())]);
        let pods = json!([named("shop", "web")]);
        server.insert("/api/v1/namespaces/shop/pods", vec![list(&pods, "")]);
        let (collected, log) = collect(server).await;
        assert_eq!(collected.unwrap().resource_list["v1/Pod"], ["shop/web"]);
        let errors = log.results().errors;
        assert!(errors.namespaces["shop"][0].contains("configmaps"), "{body}: {errors:?}");
    }
}

#[tokio::test]
async fn a_list_that_expires_starts_again_and_takes_nothing_twice() {
    let mut server = server();
    let first = list(&json!([named("shop", "a")]), "token");
    server.insert(
        "/api/v1/namespaces/shop/configmaps",
        vec![first.clone(), first],
    );
    let gone = json!({"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"});
    let rest = list(&json!([named("shop", "b")]), "");
    server.insert(
        "/api/v1/namespaces/shop/configmaps?continue=token",
        vec![(410, gone.to_string()), rest],
    );
    let (collected, log) = collect(server).await;
    assert_eq!(
        collected.unwrap().resource_list["v1/ConfigMap"],
        ["shop/a", "shop/b"]
    );
    assert!(log.results().errors.is_empty());
}

#[tokio::test]
async fn a_server_that_stumbles_is_asked_again() {
    let mut server = server();
    let busy = json!({"kind": "Status", "status": "Failure", "code": 503, "reason": "ServiceUnavailable", "message": "busy"});
    let good = list(&json!([named("shop", "a")]), "");
    server.insert(
        "/api/v1/namespaces/shop/configmaps",
        vec![(503, busy.to_string()), good],
    );
    let (collected, log) = collect(server).await;
    assert_eq!(collected.unwrap().resource_list["v1/ConfigMap"], ["shop/a"]);
    assert!(log.results().errors.is_empty());
}

#[tokio::test]
async fn a_cluster_that_cannot_be_discovered_ends_the_run() {
    let mut server = server();
    server.remove("/apis");
    let (collected, _) = collect(server).await;
    assert!(matches!(collected, Err(Error::Kube { .. })));
}
