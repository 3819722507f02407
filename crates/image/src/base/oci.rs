//! Images of registries. The server fetches them itself, through the proxy of its own environment and with the
//! certificates that it trusts.

use super::Layers;
use super::archive::{Config, architecture};
use super::registries::Registries;
use oci_client::client::ClientConfig;
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use std::path::Path;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

const FIND_LIMIT: Duration = Duration::from_secs(60);
const FETCH_LIMIT: Duration = Duration::from_secs(30 * 60);
const MOST_LAYERS: usize = 128;
const MOST_BYTES: i64 = 32 << 30;

/// What a reference means now.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// With the digest, so that what is fetched is what was found.
    reference: Reference,
    pub(super) digest: String,
    layers: Vec<OciDescriptor>,
    env: Vec<(String, String)>,
    registries: Registries,
}

pub(super) async fn find(reference: &str, registries: &Registries) -> Result<Found, String> {
    let reference: Reference =
        reference.parse().map_err(|_| format!("{reference:?} is not the name of an image"))?;
    registries.check(reference.registry())?;
    let client = client(registries);
    let auth = RegistryAuth::Anonymous;
    let pull = client.pull_manifest_and_config(&reference, &auth);
    let pulled = tokio::time::timeout(FIND_LIMIT, pull).await;
    let (manifest, digest, config) = pulled
        .map_err(|_| format!("{} did not answer within {} s", reference.registry(), FIND_LIMIT.as_secs()))?
        .map_err(|error| error.to_string().chars().take(300).collect::<String>())?;
    let bytes: i64 = manifest.layers.iter().map(|layer| layer.size.max(0)).sum();
    if manifest.layers.len() > MOST_LAYERS || bytes > MOST_BYTES {
        return Err(format!("it has {} layers and {bytes} bytes, which is too much", manifest.layers.len()));
    }
    let env = serde_json::from_str::<Config>(&config).map(|config| config.env()).unwrap_or_default();
    let reference = reference.clone_with_digest(digest.clone());
    Ok(Found { reference, digest, layers: manifest.layers, env, registries: registries.clone() })
}

impl Found {
    pub(super) async fn fetch(&self, scratch: &Path) -> Result<Layers, String> {
        let fetch = async {
            let client = client(&self.registries);
            client
                .auth(&self.reference, &RegistryAuth::Anonymous, oci_client::RegistryOperation::Pull)
                .await
                .map_err(|error| error.to_string())?;
            let mut files = Vec::with_capacity(self.layers.len());
            for (number, layer) in self.layers.iter().enumerate() {
                let path = scratch.join(format!("layer-{number}"));
                let mut file = tokio::fs::File::create(&path).await.map_err(|error| error.to_string())?;
                // Checks the digest as it goes.
                client
                    .pull_blob(&self.reference, layer, &mut file)
                    .await
                    .map_err(|error| error.to_string())?;
                file.flush().await.map_err(|error| error.to_string())?;
                files.push(path);
            }
            Ok::<_, String>(files)
        };
        let files = tokio::time::timeout(FETCH_LIMIT, fetch)
            .await
            .map_err(|_| format!("it was not fetched within {} minutes", FETCH_LIMIT.as_secs() / 60))??;
        Ok(Layers { files, env: self.env.clone() })
    }
}

fn client(registries: &Registries) -> Client {
    // The first provider of the process stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let variable = |name: &str| {
        let value = std::env::var(name).or_else(|_| std::env::var(name.to_lowercase()));
        value.ok().filter(|value| !value.is_empty())
    };
    Client::new(ClientConfig {
        protocol: registries.protocol(),
        platform_resolver: Some(Box::new(|entries| {
            let is_ours = |entry: &&oci_client::manifest::ImageIndexEntry| {
                entry.platform.as_ref().is_some_and(|platform| {
                    platform.os.to_string() == "linux" && platform.architecture.to_string() == architecture()
                })
            };
            entries.iter().find(is_ours).map(|entry| entry.digest.clone())
        })),
        read_timeout: Some(Duration::from_secs(60)),
        connect_timeout: Some(Duration::from_secs(20)),
        https_proxy: variable("HTTPS_PROXY"),
        http_proxy: variable("HTTP_PROXY"),
        no_proxy: variable("NO_PROXY"),
        user_agent: "greenroom",
        ..ClientConfig::default()
    })
}

#[cfg(test)]
mod tests {
    use super::Registries;

    #[tokio::test]
    async fn a_name_in_a_recipe_leads_to_no_machine_of_the_servers_network() {
        let registries = Registries::default();
        let find = |name| super::find(name, &registries);
        for name in ["169.254.169.254/x", "localhost:5000/x", "registry.internal/x", "127.0.0.1/a/b:c"] {
            let reason = find(name).await.unwrap_err();
            assert!(reason.contains("is not among the registries"), "{reason}");
        }
        assert!(find("A B").await.unwrap_err().contains("not the name of an image"));
    }
}
