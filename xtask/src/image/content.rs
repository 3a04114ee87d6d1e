//! What is in each image.

use std::path::Path;

use super::archive::{Entry, Image};

/// The certificate authorities this machine trusts, as Debian keeps them.
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";

/// The image of a pod's sandbox: a program that sleeps.
pub const PAUSE: &str = "docker.io/ark/pause:1";
/// A shell and the usual small programs, for helper and test pods.
pub const BUSYBOX: &str = "docker.io/ark/busybox:1";
/// The web server of the example. On a cluster that can pull images this is the public nginx; here
/// a small server stands in for it, with the same folders.
pub const NGINX: &str = "docker.io/library/nginx:1.29";

/// Serves the folder that nginx serves, logs to where it logs, and ends when it is told to, which
/// the first process of a container does only if it says so itself.
const SERVE: &str = r"#!/bin/sh
mkdir -p /var/log/nginx
httpd -f -v -p 80 -h /usr/share/nginx/html 2>>/var/log/nginx/access.log &
trap 'kill $!; exit 0' TERM INT QUIT
wait $!
";

pub(super) fn operator(programs: &Path, version: &str) -> Image {
    let mut image = Image::new(&format!("docker.io/ark/operator:{version}"));
    add_program(&mut image, programs, "ark-operator");
    add_surroundings(&mut image);
    image.entrypoint = vec!["/ark-operator".to_owned()];
    image
}

pub(super) fn agent(programs: &Path, version: &str) -> Image {
    let mut image = Image::new(&format!("docker.io/ark/agent:{version}"));
    add_program(&mut image, programs, "ark-agent");
    add_program(&mut image, programs, "ark-restore-wait");
    add_surroundings(&mut image);
    image.entrypoint = vec!["/ark-agent".to_owned()];
    image
}

pub(super) fn pause(busybox: &Path) -> Image {
    let mut image = Image::new(PAUSE);
    image.add("bin/busybox", copy(busybox));
    image.entrypoint = ["/bin/busybox", "sleep", "2147483647"]
        .map(str::to_owned)
        .to_vec();
    image
}

pub(super) fn busybox(busybox: &Path, applets: &[&str]) -> Image {
    let mut image = Image::new(BUSYBOX);
    add_busybox(&mut image, busybox, applets);
    image.cmd = vec!["sh".to_owned()];
    image
}

pub(super) fn nginx(busybox: &Path, applets: &[&str]) -> Image {
    let mut image = Image::new(NGINX);
    add_busybox(&mut image, busybox, applets);
    image.add("usr/share/nginx/html", Entry::Folder { mode: 0o755 });
    image.add("var/log/nginx", Entry::Folder { mode: 0o755 });
    let script = Entry::Text {
        text: SERVE.to_owned(),
        mode: 0o755,
    };
    image.add("docker-entrypoint.sh", script);
    image.entrypoint = vec!["/docker-entrypoint.sh".to_owned()];
    image
}

fn add_program(image: &mut Image, programs: &Path, name: &str) {
    image.add(name, copy(&programs.join(name)));
}

fn add_surroundings(image: &mut Image) {
    let authorities = Path::new("/").join(AUTHORITIES);
    if authorities.is_file() {
        let entry = Entry::Copy {
            from: authorities,
            mode: 0o644,
        };
        image.add(AUTHORITIES, entry);
    }
    image.add("tmp", Entry::Folder { mode: 0o1777 });
}

fn add_busybox(image: &mut Image, busybox: &Path, applets: &[&str]) {
    for applet in applets {
        let to = "busybox".to_owned();
        image.add(&format!("bin/{applet}"), Entry::Link { to });
    }
    image.add("bin/busybox", copy(busybox));
    image.add("tmp", Entry::Folder { mode: 0o1777 });
}

fn copy(from: &Path) -> Entry {
    Entry::Copy {
        from: from.to_path_buf(),
        mode: 0o755,
    }
}
