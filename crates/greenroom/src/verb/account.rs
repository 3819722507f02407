//! `sign-in` and `sign-out`: a token of the person's own, kept in the client file.

use crate::ask;
use crate::cli::{Global, SignIn};
use crate::client_file::ClientFile;
use crate::connection::{self, Surroundings};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use greenroom_client::{Address, Client, Credential};
use greenroom_domain::Person;
use greenroom_wire as wire;
use serde_json::json;

pub(crate) async fn sign_in(global: &Global, out: Output, arguments: SignIn) -> Result<Exit, Failure> {
    let (client, link_token) = match &arguments.link {
        Some(link) => at_link(link)?,
        None => (connection::connect_as_nobody(global)?, String::new()),
    };
    let (person, token) = if arguments.with_token {
        with_token(&client).await?
    } else if arguments.link.is_some() {
        with_link(&client, arguments, link_token).await?
    } else {
        with_password(&client, arguments).await?
    };
    keep(global, client.address(), token)?;
    let answer = json!({ "server": client.address().to_string(), "person": person });
    out.document(&answer, |_| format!("Signed in to {} as {}.\n", client.address(), person.login))?;
    Ok(Exit::Done)
}

async fn with_token(client: &Client) -> Result<(Person, String), Failure> {
    let token = ask::secret_file("-".as_ref())?;
    let signed_in = client.with_credential(Credential::Token(token.clone())).me().await?;
    Ok((signed_in.person, token))
}

async fn with_password(client: &Client, arguments: SignIn) -> Result<(Person, String), Failure> {
    let otherwise = "Run it on a terminal, or give a token: greenroom sign-in --with-token";
    let login = match arguments.login {
        Some(login) => login,
        None => ask::line("Login", otherwise)?
            .parse()
            .map_err(|error| Failure::usage(format!("{error}."), "Ask an admin for your login."))?,
    };
    let password = ask::secret("Password", otherwise)?;
    let (signed_in, credential) = client.sign_in(&wire::SignIn { login, password }).await?;
    Ok((signed_in.person, own_token(client, credential).await?))
}

async fn with_link(client: &Client, arguments: SignIn, token: String) -> Result<(Person, String), Failure> {
    let body = wire::UseSignInLink {
        token,
        login: arguments.login,
        name: arguments.name,
        email: arguments.email,
        password: ask::new_password()?,
    };
    let (signed_in, credential) = client.use_sign_in_link(&body).await?;
    Ok((signed_in.person, own_token(client, credential).await?))
}

async fn own_token(client: &Client, credential: Credential) -> Result<String, Failure> {
    let created = client.with_credential(credential).create_token("command line", None, None).await?;
    Ok(created.secret)
}

/// The server and the one-time token that a sign-in link names.
fn at_link(link: &str) -> Result<(Client, String), Failure> {
    let not_a_link = || Failure::usage("That is not a sign-in link.", "Give the whole link, in quotes.");
    let (page, query) = link.split_once('?').ok_or_else(not_a_link)?;
    let server = page.strip_suffix("/sign-in/link").ok_or_else(not_a_link)?;
    let address: Address = server.parse().map_err(|_| not_a_link())?;
    let token = query.split('&').find_map(|pair| pair.strip_prefix("token=")).ok_or_else(not_a_link)?;
    Ok((Client::new(address, Credential::None)?, token.to_owned()))
}

fn keep(global: &Global, address: &Address, token: String) -> Result<(), Failure> {
    let path = Surroundings::read(global).client_file();
    let mut file = ClientFile::read(&path)?;
    file.tokens.insert(address.to_string(), token);
    file.server = Some(address.to_string());
    file.write(&path)
}

pub(crate) fn sign_out(global: &Global, out: Output) -> Result<Exit, Failure> {
    let path = Surroundings::read(global).client_file();
    let mut file = ClientFile::read(&path)?;
    let server = global.server.clone().or_else(|| file.server.clone()).unwrap_or_default();
    let server = server.trim_end_matches('/').to_owned();
    let was_kept = file.tokens.remove(&server).is_some();
    file.server = file.server.filter(|kept| *kept != server);
    if was_kept {
        file.write(&path)?;
    }
    out.document(&json!({ "server": server, "was_signed_in": was_kept }), |_| {
        if was_kept {
            format!("The token of {server} is forgotten.\n")
        } else {
            "No token was kept.\n".to_owned()
        }
    })?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_link_names_server_and_token() {
        let (client, token) = at_link("https://code.example/g/sign-in/link?first=1&token=abc").unwrap();
        assert_eq!(
            (client.address().to_string().as_str(), token.as_str()),
            ("https://code.example/g", "abc")
        );
        for bad in ["", "abc", "https://code.example/?token=a", "https://code.example/sign-in/link?first=1"] {
            assert!(at_link(bad).is_err(), "{bad}");
        }
    }
}
