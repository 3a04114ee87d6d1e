//! The control plane that tests run on, itself: it starts, two of them live beside each other, a
//! killed API server comes back with everything it held, and nothing of it survives its user.

use std::time::{Duration, Instant};

use xtask::cluster::{Component, ControlPlane};
use xtask::exec;
use xtask::wait::{self, Look};

fn kubectl(plane: &ControlPlane, args: &[&str]) -> anyhow::Result<String> {
    exec::output(plane.kubectl()?.args(args))
}

#[test]
fn two_control_planes_know_nothing_of_each_other() {
    let (one, two) = std::thread::scope(|scope| {
        let one = scope.spawn(|| ControlPlane::start().unwrap());
        let two = scope.spawn(|| ControlPlane::start().unwrap());
        (one.join().unwrap(), two.join().unwrap())
    });
    kubectl(&one, &["create", "namespace", "only-here"]).unwrap();
    kubectl(&one, &["get", "namespace", "only-here"]).unwrap();
    let error = kubectl(&two, &["get", "namespace", "only-here"]).unwrap_err();
    assert!(error.to_string().contains("NotFound"), "{error:#}");
}

#[test]
fn a_killed_api_server_comes_back_with_what_it_held() {
    let plane = ControlPlane::start().unwrap();
    kubectl(
        &plane,
        &["create", "configmap", "kept", "--from-literal=a=b"],
    )
    .unwrap();
    plane.supervisor().kill(Component::KubeApiserver).unwrap();
    kubectl(&plane, &["get", "configmap", "kept"]).unwrap_err();
    plane
        .supervisor()
        .start_again(Component::KubeApiserver)
        .unwrap();
    plane.wait_ready().unwrap();
    kubectl(&plane, &["get", "configmap", "kept"]).unwrap();
}

#[test]
fn a_service_account_has_only_its_own_rights() {
    let plane = ControlPlane::start().unwrap();
    let config = plane
        .service_account_kubeconfig("default", "default")
        .unwrap();
    let error = exec::output(
        plane
            .kubectl()
            .unwrap()
            .env("KUBECONFIG", config)
            .args(["get", "secrets"]),
    )
    .unwrap_err();
    assert!(error.to_string().contains("Forbidden"), "{error:#}");
}

#[test]
fn a_deleted_namespace_ends_and_nothing_outlives_the_user() {
    let start = Instant::now();
    let plane = ControlPlane::start().unwrap();
    assert!(start.elapsed() < Duration::from_mins(1));
    kubectl(&plane, &["create", "namespace", "short"]).unwrap();
    kubectl(&plane, &["delete", "namespace", "short", "--timeout=30s"]).unwrap();
    let dir = plane.dir().to_path_buf();
    let server = plane
        .supervisor()
        .running(Component::KubeApiserver)
        .unwrap()
        .unwrap();
    drop(plane);
    assert!(!dir.exists());
    let gone = wait::until("end of the API server", Duration::from_secs(10), || {
        Ok(if server.is_alive() {
            Look::NotYet("alive".to_owned())
        } else {
            Look::Ready(())
        })
    });
    gone.unwrap();
}

#[test]
fn the_generated_definitions_are_accepted() {
    let plane = ControlPlane::start().unwrap();
    plane.install_crds().unwrap();
    let kinds = kubectl(
        &plane,
        &["api-resources", "--api-group=ark.heptio.com", "-o", "name"],
    )
    .unwrap();
    assert!(kinds.contains("podvolumebackups.ark.heptio.com"), "{kinds}");
}
