//! Connections are made in advance, kept, replaced, and never needed at the moment of a request.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod support;

use greenroom_model::testing::{Turn, WireServer, WireServerOptions};
use greenroom_model::{EndpointOptions, Provider, ProviderKind, StreamEvent};
use std::time::{Duration, Instant};
use support::{DEADLINE, ask, prompt, provider, provider_with, server, until, within};

const PLAIN: WireServerOptions = WireServerOptions { tls: false, http2: false, round_trip: Duration::ZERO };
const TLS: WireServerOptions = WireServerOptions { tls: true, http2: false, round_trip: Duration::ZERO };
const TLS_H2: WireServerOptions = WireServerOptions { tls: true, http2: true, round_trip: Duration::ZERO };

async fn say_yes(options: WireServerOptions) -> WireServer {
    let server = server(options).await;
    server.respond_with(|_| Turn::text("yes"));
    server
}

async fn ask_once(provider: &dyn Provider) {
    ask(provider, prompt("go")).await.end.unwrap();
}

#[tokio::test]
async fn a_warm_provider_sends_its_request_on_a_connection_that_exists() {
    for options in [PLAIN, TLS, TLS_H2] {
        let server = say_yes(options).await;
        let provider = provider(&server, ProviderKind::Anthropic);
        within(provider.warm()).await;
        until("the connection", || server.connections() == 1).await;
        ask_once(&*provider).await;
        assert_eq!(server.requests()[0].connection, 1, "{options:?}");
    }
}

#[tokio::test]
async fn http2_shares_one_connection_among_concurrent_requests() {
    let server = say_yes(TLS_H2).await;
    let provider = provider(&server, ProviderKind::Openai);
    within(provider.warm()).await;
    let asking = (0..16).map(|_| ask(&*provider, prompt("go")));
    let answers = futures::future::join_all(asking).await;
    assert!(answers.into_iter().all(|answer| answer.end.is_ok()));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn concurrent_first_requests_over_http2_make_one_connection() {
    let server = say_yes(TLS_H2).await;
    let provider = provider(&server, ProviderKind::Openai);
    let answers = futures::future::join_all((0..8).map(|_| ask(&*provider, prompt("go")))).await;
    assert!(answers.into_iter().all(|answer| answer.end.is_ok()));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn http1_reuses_connections_and_keeps_another_ready_while_one_is_busy() {
    let server = say_yes(PLAIN).await;
    let provider = provider(&server, ProviderKind::OpenaiChat);
    within(provider.warm()).await;
    let mut stream = provider.stream(prompt("go")).await.unwrap();
    until("a second connection", || server.connections() == 2).await;
    while within(stream.recv()).await.is_some() {}
    for _ in 0..20 {
        ask_once(&*provider).await;
    }
    assert!(server.connections() <= 3, "{} connections", server.connections());
}

#[tokio::test]
async fn connections_that_died_are_replaced_before_they_are_needed() {
    for options in [PLAIN, TLS_H2] {
        let server = say_yes(options).await;
        let provider = provider(&server, ProviderKind::Anthropic);
        within(provider.warm()).await;
        until("the first connection", || server.connections() == 1).await;
        server.close_connections();
        until("its replacement", || server.connections() == 2).await;
        ask_once(&*provider).await;
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_request_right_after_the_connections_died_still_succeeds() {
    for options in [PLAIN, TLS_H2] {
        let server = say_yes(options).await;
        let provider = provider(&server, ProviderKind::Anthropic);
        within(provider.warm()).await;
        until("the connection", || server.connections() >= 1).await;
        server.close_connections();
        // Let the ends of the connections arrive, but give no time for much else.
        tokio::task::yield_now().await;
        let answer = ask(&*provider, prompt("go")).await;
        if let Err(error) = answer.end {
            assert!(error.retry(1).is_some(), "{options:?}: {error:?}");
            ask_once(&*provider).await;
        }
    }
}

#[tokio::test]
async fn idle_connections_are_not_trusted_for_long() {
    let server = say_yes(PLAIN).await;
    let options = EndpointOptions { idle_lifetime: Duration::from_millis(30), ..server.endpoint_options() };
    let provider = provider_with(&server, ProviderKind::OpenaiChat, options);
    within(provider.warm()).await;
    let warmed = Instant::now();
    until("the lifetime's end", || warmed.elapsed() > Duration::from_millis(60)).await;
    ask_once(&*provider).await;
    assert_ne!(server.requests()[0].connection, 1);
}

#[tokio::test]
async fn dropping_the_stream_cancels_the_request_at_the_server() {
    for options in [PLAIN, TLS_H2] {
        let server = server(options).await;
        server.push(Turn::text("word ".repeat(100_000)).with_pace(Duration::from_millis(1)));
        server.push(Turn::text("yes"));
        let provider = provider(&server, ProviderKind::Anthropic);
        let mut stream = provider.stream(prompt("go")).await.unwrap();
        assert!(matches!(within(stream.recv()).await, Some(StreamEvent::Delta(_))));
        drop(stream);
        ask_once(&*provider).await;
    }
}

#[tokio::test]
async fn a_round_trip_costs_a_warm_request_half_of_it_and_a_cold_one_the_handshakes_too() {
    let round_trip = Duration::from_millis(100);
    let server = say_yes(WireServerOptions { round_trip, ..TLS_H2 }).await;
    let warm = provider(&server, ProviderKind::Anthropic);
    within(warm.warm()).await;
    let begin = Instant::now();
    ask_once(&*warm).await;
    let took = server.requests()[0].received_at - begin;
    assert!(took >= round_trip / 2 && took < round_trip * 2, "warm: {took:?}");
    let cold = provider(&server, ProviderKind::Anthropic);
    let begin = Instant::now();
    ask_once(&*cold).await;
    let took = server.wait_for_requests(2, DEADLINE).await.unwrap()[1].received_at - begin;
    assert!(took >= round_trip * 5 / 2, "cold: {took:?}");
}
