//! The client's side of SOCKS version 5: CONNECT, without authentication or with user and password (RFC 1928, RFC 1929).

use crate::{host::Host, io::BoxedIo};
use std::net::IpAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const VERSION: u8 = 5;
const NO_LOGIN: u8 = 0;
const LOGIN: u8 = 2;

/// The error is a reason in words.
pub(super) async fn connect(
    stream: &mut BoxedIo,
    login: Option<&(String, String)>,
    host: &Host,
    port: u16,
) -> Result<(), String> {
    let words = |error: std::io::Error| error.to_string();
    let method = if login.is_some() { LOGIN } else { NO_LOGIN };
    stream.write_all(&[VERSION, 1, method]).await.map_err(words)?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await.map_err(words)?;
    match (chosen, login) {
        ([VERSION, NO_LOGIN], _) => {}
        ([VERSION, LOGIN], Some((user, password))) => sign_in(stream, user, password).await?,
        ([VERSION, _], _) => return Err("it wants another way to sign in".into()),
        _ => return Err("it does not speak SOCKS version 5".into()),
    }
    let mut request = vec![VERSION, 1, 0];
    match host {
        Host::Address(IpAddr::V4(address)) => {
            request.push(1);
            request.extend(address.octets());
        }
        Host::Address(IpAddr::V6(address)) => {
            request.push(4);
            request.extend(address.octets());
        }
        Host::Name(name) => {
            request.push(3);
            text(&mut request, name)?;
        }
    }
    request.extend(port.to_be_bytes());
    stream.write_all(&request).await.map_err(words)?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.map_err(words)?;
    if answer[1] != 0 {
        return Err(reason(answer[1]));
    }
    let length = match answer[3] {
        1 => 4,
        4 => 16,
        3 => usize::from(stream.read_u8().await.map_err(words)?),
        _ => return Err("its answer is not understood".into()),
    };
    let mut bound = vec![0; length + 2];
    stream.read_exact(&mut bound).await.map_err(words)?;
    Ok(())
}

async fn sign_in(stream: &mut BoxedIo, user: &str, password: &str) -> Result<(), String> {
    let words = |error: std::io::Error| error.to_string();
    let mut request = vec![1];
    text(&mut request, user)?;
    text(&mut request, password)?;
    stream.write_all(&request).await.map_err(words)?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await.map_err(words)?;
    if answer[1] == 0 { Ok(()) } else { Err("it refused user and password".into()) }
}

fn text(request: &mut Vec<u8>, text: &str) -> Result<(), String> {
    request.push(u8::try_from(text.len()).map_err(|_| "a name or password is too long for it".to_owned())?);
    request.extend(text.as_bytes());
    Ok(())
}

fn reason(code: u8) -> String {
    match code {
        2 => "its rules do not allow it".into(),
        3 | 4 => "the host cannot be reached".into(),
        5 => "the connection was refused".into(),
        6 => "the time ran out".into(),
        other => format!("it failed with code {other}"),
    }
}
