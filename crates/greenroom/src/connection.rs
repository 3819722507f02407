//! Which server, and as whom: flags, then environment, then what is found on this machine.

use crate::cli::Global;
use crate::client_file::ClientFile;
use crate::exit::Failure;
use greenroom_client::{Address, Client, Credential, TokenSource};
use greenroom_wire::ClientKind;
use std::path::{Path, PathBuf};

pub(crate) const DEFAULT_SERVER: &str = "http://127.0.0.1:7878";

/// What the environment says, read once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surroundings {
    pub(crate) token: Option<String>,
    pub(crate) config_dir: PathBuf,
    pub(crate) data_dir: PathBuf,
}

impl Surroundings {
    pub(crate) fn read(global: &Global) -> Self {
        let var = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let home = PathBuf::from(var("HOME").unwrap_or_else(|| ".".to_owned()));
        let config_dir = var("XDG_CONFIG_HOME").map_or_else(|| home.join(".config"), PathBuf::from);
        Self { token: var("GREENROOM_TOKEN"), config_dir, data_dir: data_dir(global.data.as_deref()) }
    }

    pub(crate) fn client_file(&self) -> PathBuf {
        self.config_dir.join("greenroom/client.toml")
    }

    /// A line of a file in the data directory's `run/`, where this user may read it.
    fn run_file(&self, name: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.data_dir.join("run").join(name)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }
}

/// `--data` or `GREENROOM_DATA` (clap reads both), otherwise the user's own place for data.
pub(crate) fn data_dir(chosen: Option<&Path>) -> PathBuf {
    let var = |name: &str| std::env::var_os(name).filter(|text| !text.is_empty()).map(PathBuf::from);
    let own = || {
        let home = var("HOME").unwrap_or_default();
        var("XDG_DATA_HOME").unwrap_or_else(|| home.join(".local/share")).join("greenroom")
    };
    chosen.map_or_else(own, Path::to_owned)
}

pub(crate) fn connect(global: &Global) -> Result<Client, Failure> {
    let surroundings = Surroundings::read(global);
    let (address, credential) = choose(global, &surroundings)?;
    Ok(Client::new(address, credential)?.with_kind(ClientKind::Cli))
}

/// The server without a credential, to sign in to.
pub(crate) fn connect_as_nobody(global: &Global) -> Result<Client, Failure> {
    let surroundings = Surroundings::read(global);
    let file = ClientFile::read(&surroundings.client_file())?;
    Ok(Client::new(server(global, &surroundings, &file)?, Credential::None)?)
}

fn choose(global: &Global, surroundings: &Surroundings) -> Result<(Address, Credential), Failure> {
    let file = ClientFile::read(&surroundings.client_file())?;
    let address = server(global, surroundings, &file)?;
    let token = surroundings.token.clone().or_else(|| file.token(&address).cloned());
    let credential = token.map(Credential::Token).or_else(|| local_credential(surroundings, &address));
    Ok((address, credential.unwrap_or_default()))
}

fn server(global: &Global, surroundings: &Surroundings, file: &ClientFile) -> Result<Address, Failure> {
    let is_local = global.data.is_some() || file.server.is_none();
    let text = global
        .server
        .clone()
        .or_else(|| surroundings.run_file("address").filter(|_| is_local))
        .or_else(|| file.server.clone())
        .unwrap_or_else(|| DEFAULT_SERVER.to_owned());
    text.parse().map_err(|error: greenroom_client::InvalidAddress| {
        Failure::usage(format!("{error}."), "For example --server https://greenroom.example.org")
    })
}

/// The local admin's token, for the server of this data directory only. Read again for each request: who watches a session
/// goes on watching after the server has started anew.
fn local_credential(surroundings: &Surroundings, address: &Address) -> Option<Credential> {
    local_token(surroundings, address)?;
    let (surroundings, address) = (surroundings.clone(), address.clone());
    Some(Credential::Renewed(TokenSource::new(move || local_token(&surroundings, &address))))
}

fn local_token(surroundings: &Surroundings, address: &Address) -> Option<String> {
    let own = surroundings.run_file("address").and_then(|text| text.parse::<Address>().ok());
    let is_own = own.is_none_or(|own| own == *address);
    (address.is_loopback() && is_own).then(|| surroundings.run_file("local-token"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Machine {
        _dir: tempfile::TempDir,
        surroundings: Surroundings,
    }

    impl Machine {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let surroundings = Surroundings {
                token: None,
                config_dir: dir.path().join("config"),
                data_dir: dir.path().join("data"),
            };
            std::fs::create_dir_all(surroundings.data_dir.join("run")).unwrap();
            Self { _dir: dir, surroundings }
        }

        fn run_file(self, name: &str, text: &str) -> Self {
            std::fs::write(self.surroundings.data_dir.join("run").join(name), text).unwrap();
            self
        }

        fn signed_in(self, server: &str, token: &str) -> Self {
            let mut file = ClientFile { server: Some(server.to_owned()), ..ClientFile::default() };
            file.tokens.insert(server.to_owned(), token.to_owned());
            file.write(&self.surroundings.client_file()).unwrap();
            self
        }

        fn choose(&self, global: &Global) -> (String, Credential) {
            let (address, credential) = choose(global, &self.surroundings).unwrap();
            (address.to_string(), now(&credential))
        }
    }

    /// What would be sent.
    fn now(credential: &Credential) -> Credential {
        match credential {
            Credential::Renewed(source) => source.token().map_or(Credential::None, Credential::Token),
            other => other.clone(),
        }
    }

    fn token(text: &str) -> Credential {
        Credential::Token(text.to_owned())
    }

    fn at(server: &str) -> Global {
        Global { server: Some(server.to_owned()), ..Global::default() }
    }

    #[test]
    fn on_the_servers_machine_no_sign_in_is_needed() {
        let machine = Machine::new().run_file("local-token", "grt_local\n");
        assert_eq!(machine.choose(&Global::default()), (DEFAULT_SERVER.to_owned(), token("grt_local")));
        let machine = machine.run_file("address", "http://127.0.0.1:9999\n");
        let (address, credential) = machine.choose(&Global::default());
        assert_eq!((address.as_str(), credential), ("http://127.0.0.1:9999", token("grt_local")));
    }

    #[test]
    fn the_local_token_is_the_one_of_the_servers_last_start() {
        let machine = Machine::new().run_file("local-token", "grt_first");
        let (_, credential) = choose(&Global::default(), &machine.surroundings).unwrap();
        assert_eq!(now(&credential), token("grt_first"));
        let _machine = machine.run_file("local-token", "grt_second");
        assert_eq!(now(&credential), token("grt_second"));
    }

    #[test]
    fn the_local_token_goes_to_its_own_server_only() {
        let machine =
            Machine::new().run_file("local-token", "grt_local").run_file("address", "http://127.0.0.1:9999");
        assert_eq!(machine.choose(&at("http://127.0.0.1:7878")).1, Credential::None);
        assert_eq!(machine.choose(&at("https://code.example")).1, Credential::None);
    }

    #[test]
    fn a_token_of_one_server_is_not_sent_to_another() {
        let machine = Machine::new().signed_in("https://code.example", "grt_ann");
        assert_eq!(machine.choose(&Global::default()), ("https://code.example".to_owned(), token("grt_ann")));
        assert_eq!(machine.choose(&at("https://other.example")).1, Credential::None);
    }

    #[test]
    fn the_environments_token_comes_first() {
        let mut machine = Machine::new().run_file("local-token", "grt_local");
        machine.surroundings.token = Some("grt_env".to_owned());
        assert_eq!(machine.choose(&Global::default()).1, token("grt_env"));
    }
}
