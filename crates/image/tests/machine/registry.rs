//! A registry of this process: the files of a directory over HTTP, under the name `registry.test`, on an address of this
//! machine that only the broker of the test leads to. Package managers inside a sandbox speak their own protocol with it.

use async_trait::async_trait;
use axum::Router;
use axum::extract::Path as UrlPath;
use axum::http::StatusCode;
use axum::routing::get;
use greenroom_broker::{AllowRule, Host, HostPattern, Resolver, SystemResolver};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpListener;

pub const NAME: &str = "registry.test";

/// Ends with the test's runtime.
#[derive(Debug)]
pub struct Registry {
    address: Ipv4Addr,
}

impl Registry {
    /// On port 80, as the files name no port: one of the loopback network's many addresses has it free.
    pub async fn serve(directory: PathBuf) -> Self {
        let (address, listener) = free().await;
        let directory = Arc::new(directory);
        let files = move |UrlPath(path): UrlPath<String>| answer(Arc::clone(&directory), path);
        let router = Router::new().route("/{*path}", get(files));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address }
    }

    pub fn resolver(&self) -> Arc<dyn Resolver> {
        Arc::new(Names { address: self.address })
    }

    /// As an admin would allow a registry of their own network.
    pub fn rule() -> AllowRule {
        let host = Host::parse(NAME).expect("a name");
        AllowRule { host: HostPattern::Exact(host), port: Some(80), allow_private: true }
    }
}

async fn free() -> (Ipv4Addr, TcpListener) {
    for last in 1..=254 {
        let address = Ipv4Addr::new(127, 77, 0, last);
        match TcpListener::bind((address, 80)).await {
            Ok(listener) => return (address, listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => panic!("port 80 cannot be listened on, which takes root: {error}"),
        }
    }
    panic!("every address has its port 80 taken")
}

async fn answer(directory: Arc<PathBuf>, path: String) -> Result<Vec<u8>, StatusCode> {
    let is_inside = Path::new(&path).components().all(|part| matches!(part, Component::Normal(_)));
    let file = directory.join(path);
    if !is_inside || !file.is_file() {
        return Err(StatusCode::NOT_FOUND);
    }
    tokio::fs::read(file).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

/// The host's names, and the registry's.
#[derive(Debug)]
struct Names {
    address: Ipv4Addr,
}

#[async_trait]
impl Resolver for Names {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        if name == NAME { Ok(vec![self.address.into()]) } else { SystemResolver.resolve(name).await }
    }
}
