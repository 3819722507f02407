//! Previews end to end: a service inside a real sandbox, opened through its own origin. A browser is played by a client
//! that follows no redirect and keeps no cookie, so that each step shows.

use crate::support::{Model, Server, until};
use futures::{SinkExt, StreamExt};
use greenroom_client::{Client, Credential};
use greenroom_domain::{LoginName, Role, SessionId};
use greenroom_model::testing::Turn;
use greenroom_wire::{AddPerson, UseSignInLink};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header, redirect};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// A shop that begins to listen when somebody has opened its door.
const RECIPE: &str = r#"
[[services]]
name = "shop"
run = "until [ -e door ]; do sleep 0.1; done; exec python3 shop.py"
ready = { port = 8000, within_seconds = 300 }

[[ports]]
port = 8000
name = "Shop window"
"#;
const SHOP: &str = include_str!("preview/shop.py");
const SHOP_PORT: u16 = 8000;
const FLOOD_PORT: u16 = 8001;
const TOTAL_BYTES: usize = 128 * 1024 * 1024;

struct World {
    server: Server,
    address: SocketAddr,
    session: SessionId,
    _model: Model,
}

/// Somebody who signed in at a browser: the value of their cookie.
struct Person {
    client: Client,
    cookie: String,
}

impl World {
    fn new() -> Self {
        let server = Server::start();
        let model = Model::new(|_| Turn::text("Done."));
        server.use_model(&model);
        server.add_repository("shop", &[(".greenroom/environment.toml", RECIPE), ("shop.py", SHOP)]);
        let session = server.create_session("shop", None).unwrap().id;
        let address = server.client().address().to_string();
        let address = address.trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
        Self { server, address, session, _model: model }
    }

    /// The service is up.
    fn open_door(&self, session: SessionId) {
        self.server.exec(session, "touch door");
        until("the shop listens", || {
            let environment = self.server.wait(self.server.client().session_environment(session)).unwrap();
            environment.ports.iter().any(|port| port.port == SHOP_PORT && port.is_listening).then_some(())
        });
    }

    fn person(&self, login: &str) -> Person {
        let client = self.server.client();
        let login: LoginName = login.parse().unwrap();
        let email = format!("{login}@test.invalid");
        let added = AddPerson { login: login.clone(), name: login.to_string(), email, role: Role::Member };
        let added = self.server.wait(client.add_person(&added)).unwrap();
        let token = added.sign_in_path.split(['=', '&']).nth(1).unwrap().to_owned();
        let password = "a long enough password".to_owned();
        let link = UseSignInLink { token, login: None, name: None, email: None, password };
        let (_, credential) = self.server.wait(client.use_sign_in_link(&link)).unwrap();
        let Credential::Cookie(cookie) = credential.clone() else { panic!("no cookie") };
        Person { client: client.with_credential(credential), cookie }
    }

    fn host(&self, session: SessionId, port: u16) -> String {
        let id = session.to_string();
        format!("{port}--{}.localhost:{}", id.split_once('_').unwrap().1, self.address.port())
    }

    /// At a preview's own origin, or with no host at the product's.
    fn ask(&self, method: Method, host: Option<&str>, path: &str) -> RequestBuilder {
        let host = host.map_or_else(|| self.address.to_string(), str::to_owned);
        let name = host.rsplit_once(':').unwrap().0;
        let browser = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .tls_certs_only([])
            .resolve(name, self.address);
        let browser = browser.build().unwrap();
        browser.request(method, format!("http://{host}{path}"))
    }

    fn send(&self, request: RequestBuilder) -> Response {
        self.server.wait(request.send()).unwrap()
    }

    fn text(&self, response: Response) -> String {
        self.server.wait(response.text()).unwrap()
    }

    /// Where the product leads this person: path and query at the preview's own origin.
    fn ticket(&self, person: &Person, session: SessionId, port: u16) -> String {
        let path = format!("/api/v1/sessions/{session}/previews/{port}");
        let asked = self.ask(Method::GET, None, &path).header(header::COOKIE, product(person));
        let answer = self.send(asked);
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        let location = answer.headers()[header::LOCATION].to_str().unwrap();
        let origin = format!("http://{}", self.host(session, port));
        location.strip_prefix(&origin).unwrap_or_else(|| panic!("{location}")).to_owned()
    }

    /// The cookie of the preview's origin, `name=value`.
    fn enter(&self, person: &Person, session: SessionId, port: u16) -> String {
        let path = self.ticket(person, session, port);
        let answer = self.send(self.ask(Method::GET, Some(&self.host(session, port)), &path));
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }

    fn get(&self, session: SessionId, port: u16, cookie: &str, path: &str) -> Response {
        let asked = self.ask(Method::GET, Some(&self.host(session, port)), path);
        self.send(asked.header(header::COOKIE, cookie))
    }
}

fn product(person: &Person) -> String {
    format!("greenroom_session={}", person.cookie)
}

#[test]
fn a_service_that_is_not_up_yet_says_so_and_then_is_there() {
    let world = World::new();
    let ada = world.person("ada");
    let cookie = world.enter(&ada, world.session, SHOP_PORT);
    let host = world.host(world.session, SHOP_PORT);
    let page = || {
        let asked = world.ask(Method::GET, Some(&host), "/hello?x=1");
        world.send(asked.header(header::COOKIE, &cookie).header(header::ACCEPT, "text/html"))
    };
    let closed = page();
    assert_eq!(closed.status(), StatusCode::BAD_GATEWAY);
    let said = world.text(closed);
    assert!(said.contains("Nothing listens on port 8000 yet") && said.contains("opens by itself"), "{said}");
    world.server.exec(world.session, "touch door");
    let open = until("the shop opens", || Some(page()).filter(|page| page.status() == StatusCode::OK));
    assert_eq!(world.text(open), "apples, /hello?x=1");
}

#[test]
fn only_ports_that_somebody_inside_listens_on_are_reached() {
    let world = World::new();
    world.open_door(world.session);
    let ada = world.person("ada");
    // Nobody's, the broker's plain and proxy listeners, and its port for names.
    for port in [8002, 80, 443, 3128, 53] {
        let cookie = world.enter(&ada, world.session, port);
        let answer = world.get(world.session, port, &cookie, "/");
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY, "{port}");
        let said = world.text(answer);
        assert!(said.contains("\"port_closed\""), "{port}: {said}");
    }
}

#[test]
fn a_preview_is_open_to_who_came_from_its_session_and_to_nobody_else() {
    let world = World::new();
    world.open_door(world.session);
    let other = world.server.create_session("shop", None).unwrap().id;
    world.open_door(other);
    let (ada, ben) = (world.person("ada"), world.person("ben"));
    let cookie = world.enter(&ada, world.session, SHOP_PORT);
    let bens = world.enter(&ben, world.session, SHOP_PORT);
    assert_eq!(world.get(world.session, SHOP_PORT, &cookie, "/").status(), StatusCode::OK);
    let ticket = world.ticket(&ada, world.session, SHOP_PORT);
    let (product, tampered) = (product(&ada), format!("{cookie}x"));
    for (session, port, cookie, path) in [
        (other, SHOP_PORT, cookie.as_str(), "/"),
        (world.session, FLOOD_PORT, &cookie, "/"),
        (world.session, SHOP_PORT, &product, "/"),
        (world.session, SHOP_PORT, &tampered, "/"),
        (world.session, SHOP_PORT, "", "/"),
        (other, SHOP_PORT, "", ticket.as_str()),
        // It was used up there.
        (world.session, SHOP_PORT, "", &ticket),
    ] {
        let answer = world.get(session, port, cookie, path);
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{session} {port} {path}");
        assert!(!answer.headers().contains_key(header::SET_COOKIE), "{session} {port} {path}");
    }
    world.server.wait(ada.client.sign_out()).unwrap();
    assert_eq!(world.get(world.session, SHOP_PORT, &cookie, "/").status(), StatusCode::UNAUTHORIZED);
    assert_eq!(world.get(world.session, SHOP_PORT, &bens, "/").status(), StatusCode::OK, "only she left");
}

#[test]
fn headers_of_a_connection_and_everything_of_ours_end_between_browser_and_program() {
    let world = World::new();
    world.open_door(world.session);
    let ada = world.person("ada");
    let cookie = world.enter(&ada, world.session, SHOP_PORT);
    let host = world.host(world.session, SHOP_PORT);
    let token = world.server.member("mia");
    let asked = world
        .ask(Method::GET, Some(&host), "/seen")
        .header(header::COOKIE, format!("theme=dark; {cookie}; {}", product(&ada)))
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header("x-greenroom", "1")
        .header(header::CONNECTION, "x-hop")
        .header("x-hop", "1")
        .header(header::TE, "trailers")
        .header(header::PROXY_AUTHORIZATION, "Basic eDp5")
        .header("keep-alive", "timeout=9")
        .header("x-forwarded-for", "203.0.113.7");
    let seen = world.text(world.send(asked));
    assert!(seen.contains("cookie: theme=dark\n"), "{seen}");
    assert!(
        seen.contains(&format!("host: {host}\n")) && seen.contains("x-forwarded-proto: http\n"),
        "{seen}"
    );
    let secret = cookie.split_once('=').unwrap().1;
    for kept in
        ["greenroom", "grt_", secret, &ada.cookie, "x-hop", "te:", "proxy-", "keep-alive", "203.0.113.7"]
    {
        assert!(!seen.contains(kept), "{kept} in {seen}");
    }
    let answer = world.get(world.session, SHOP_PORT, &cookie, "/page");
    for gone in
        ["x-inside-only", "keep-alive", "proxy-authenticate", "strict-transport-security", "clear-site-data"]
    {
        assert!(!answer.headers().contains_key(gone), "{gone}");
    }
    assert_eq!(answer.headers()[header::SET_COOKIE], "basket=3; Path=/");
}

#[test]
fn a_web_socket_reaches_the_program_inside_and_back() {
    let world = World::new();
    world.open_door(world.session);
    let ada = world.person("ada");
    let cookie = world.enter(&ada, world.session, SHOP_PORT);
    let host = world.host(world.session, SHOP_PORT);
    let request = |origin: &str| {
        let mut request = format!("ws://{host}/socket").into_client_request().unwrap();
        request.headers_mut().insert(header::COOKIE, cookie.parse().unwrap());
        request.headers_mut().insert(header::ORIGIN, origin.parse().unwrap());
        request
    };
    world.server.wait(async {
        let stream = TcpStream::connect(world.address).await.unwrap();
        let product = format!("http://{}", world.address);
        let refused = tokio_tungstenite::client_async(request(&product), stream).await;
        assert!(refused.is_err(), "a page of another origin opened it");
        let stream = TcpStream::connect(world.address).await.unwrap();
        let own = format!("http://{host}");
        let (mut socket, _) = tokio_tungstenite::client_async(request(&own), stream).await.unwrap();
        for text in ["one", "two"] {
            socket.send(Message::text(text)).await.unwrap();
            let answer = socket.next().await.unwrap().unwrap();
            assert_eq!(answer, Message::text(format!("echo {text}")));
        }
    });
}

#[test]
fn bodies_stream_both_ways_and_nobody_holds_what_is_not_taken() {
    let world = World::new();
    world.open_door(world.session);
    let ada = world.person("ada");
    let cookie = world.enter(&ada, world.session, SHOP_PORT);
    let host = world.host(world.session, SHOP_PORT);

    let sent: Vec<u8> = (0..32 * 1024 * 1024_u32).map(|at| (at % 251) as u8).collect();
    let digest: String = Sha256::digest(&sent).iter().map(|byte| format!("{byte:02x}")).collect();
    let asked = world.ask(Method::POST, Some(&host), "/order").header(header::COOKIE, &cookie);
    assert_eq!(world.text(world.send(asked.body(sent))), digest);

    // Its headers are here and nothing takes its body: the program inside comes to a halt long before the end.
    let mut big = world.get(world.session, SHOP_PORT, &cookie, "/big");
    let halted = until("the program waits for its reader", || {
        let said = world.text(world.get(world.session, SHOP_PORT, &cookie, "/stalled"));
        let mut said = said.split(' ').map(|number| number.parse::<usize>().ok());
        let (at, done) = (said.next().flatten(), said.next().flatten());
        assert!(done.is_none(), "all of it was taken from the program although nobody reads it");
        at
    });
    assert!(halted < TOTAL_BYTES / 2, "{halted} bytes are held somewhere");
    let pattern: Vec<u8> = (0..=255).cycle().take(2 * 65536).collect();
    let mut got = 0;
    while let Some(chunk) = world.server.wait(big.chunk()).unwrap() {
        for part in chunk.chunks(65536) {
            assert!(part == &pattern[got % 256..][..part.len()], "torn at {got}");
            got += part.len();
        }
    }
    assert_eq!(got, TOTAL_BYTES);
}

#[test]
fn headers_without_an_end_are_refused() {
    let world = World::new();
    world.open_door(world.session);
    let ada = world.person("ada");
    let cookie = world.enter(&ada, world.session, FLOOD_PORT);
    let answer = world.get(world.session, FLOOD_PORT, &cookie, "/");
    let said = world.text(answer);
    assert!(said.contains("\"service_failed\""), "{said}");
}
