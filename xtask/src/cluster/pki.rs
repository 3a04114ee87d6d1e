//! The cluster's certificates: one authority, and what the components show each other.
//!
//! Files that are there are kept, so that a component that starts again is believed.

use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::json;

/// Where the certificates of a cluster lie.
#[derive(Debug, Clone)]
pub(super) struct Pki {
    dir: PathBuf,
}

impl Pki {
    /// Makes whatever is missing. `addresses` are those the API server is called at.
    pub(super) fn ensure(dir: &Path, addresses: &[Ipv4Addr]) -> Result<Self> {
        let pki = Self {
            dir: dir.join("pki"),
        };
        // The last file written: if it is there, all are.
        if !pki.key("service-account").is_file() {
            std::fs::create_dir_all(&pki.dir)
                .with_context(|| format!("cannot make {}", pki.dir.display()))?;
            pki.make(addresses).context("cannot make certificates")?;
        }
        Ok(pki)
    }

    /// The certificate of `name`.
    pub(super) fn certificate(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.crt"))
    }

    /// The private key of `name`.
    pub(super) fn key(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.key"))
    }

    /// The public half of the key that service account tokens are signed with.
    pub(super) fn service_account_public(&self) -> PathBuf {
        self.dir.join("service-account.pub")
    }

    fn make(&self, addresses: &[Ipv4Addr]) -> Result<()> {
        let ca_key = KeyPair::generate()?;
        let ca_params = authority()?;
        let ca = ca_params.self_signed(&ca_key)?;
        write_private(&self.certificate("ca"), &ca.pem())?;
        let issuer = Issuer::new(ca_params, ca_key);

        self.issue(&issuer, "apiserver", &server(addresses)?)?;
        let masters = Some("system:masters");
        self.issue(&issuer, "admin", &client("ark-admin", masters)?)?;
        self.issue(
            &issuer,
            "apiserver-kubelet",
            &client("apiserver-kubelet", masters)?,
        )?;
        self.issue(&issuer, "front-proxy", &client("front-proxy", None)?)?;

        let tokens = KeyPair::generate()?;
        write_private(&self.service_account_public(), &tokens.public_key_pem())?;
        write_private(&self.key("service-account"), &tokens.serialize_pem())
    }

    fn issue(
        &self,
        issuer: &Issuer<'_, KeyPair>,
        name: &str,
        params: &CertificateParams,
    ) -> Result<()> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, issuer)?;
        write_private(&self.key(name), &key.serialize_pem())?;
        write_private(&self.certificate(name), &certificate.pem())
    }

    /// Writes a kubeconfig that works from any folder: it holds what it needs.
    pub(super) fn write_kubeconfig(&self, path: &Path, server: &str) -> Result<()> {
        let user = json!({
            "client-certificate-data": encoded(&self.certificate("admin"))?,
            "client-key-data": encoded(&self.key("admin"))?,
        });
        write_kubeconfig(path, server, &self.certificate("ca"), &user)
    }
}

/// Writes a kubeconfig for a user with the given credentials.
pub(super) fn write_kubeconfig(
    path: &Path,
    server: &str,
    ca: &Path,
    user: &serde_json::Value,
) -> Result<()> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "ark", "cluster": {
            "server": server,
            "certificate-authority-data": encoded(ca)?,
        }}],
        "users": [{"name": "ark", "user": user}],
        "contexts": [{"name": "ark", "context": {"cluster": "ark", "user": "ark"}}],
        "current-context": "ark",
    });
    write_private(path, &format!("{config:#}\n"))
}

fn encoded(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(STANDARD.encode(bytes))
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    let write = || {
        let mut file = File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(text.as_bytes())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn authority() -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params
        .distinguished_name
        .push(DnType::CommonName, "ark-test-cluster");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    Ok(params)
}

fn server(addresses: &[Ipv4Addr]) -> Result<CertificateParams> {
    let names = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    let mut params = CertificateParams::new(names.map(str::to_owned))?;
    let addresses = addresses
        .iter()
        .map(|&address| SanType::IpAddress(IpAddr::V4(address)));
    params.subject_alt_names.extend(addresses);
    params
        .distinguished_name
        .push(DnType::CommonName, "kube-apiserver");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn client(name: &str, group: Option<&str>) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        params
            .distinguished_name
            .push(DnType::OrganizationName, group);
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}
