//! Answers the sandbox's DNS questions with made-up addresses. Nothing is forwarded, so a name carries nothing out: the
//! address only brings the connection here, where the name that the client then says decides.

use crate::host::Host;
use hickory_proto::{
    op::{Message, MessageType, OpCode, ResponseCode},
    rr::{DNSClass, RData, Record, RecordType, rdata},
};
use sha2::{Digest, Sha256};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const TTL_SECONDS: u32 = 60;
const LONGEST_QUERY: usize = 4096;

/// `None` for what deserves no answer.
pub(crate) fn answer(query: &[u8]) -> Option<Vec<u8>> {
    if query.len() > LONGEST_QUERY {
        return None;
    }
    let query = Message::from_vec(query).ok()?;
    if query.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.response_code = fill(&query, &mut reply);
    reply.to_vec().ok()
}

fn fill(query: &Message, reply: &mut Message) -> ResponseCode {
    if query.metadata.op_code != OpCode::Query {
        return ResponseCode::NotImp;
    }
    let [question] = query.queries.as_slice() else { return ResponseCode::FormErr };
    reply.add_query(question.clone());
    if question.query_class() != DNSClass::IN {
        return ResponseCode::NotImp;
    }
    let Some(Host::Name(name)) = Host::parse(&question.name().to_ascii()) else {
        return ResponseCode::NXDomain;
    };
    let data = match question.query_type() {
        RecordType::A => RData::A(rdata::A(synthetic_v4(&name))),
        RecordType::AAAA => RData::AAAA(rdata::AAAA(synthetic_v6(&name))),
        // The name exists, but has no record of this kind.
        _ => return ResponseCode::NoError,
    };
    reply.add_answer(Record::from_rdata(question.name().clone(), TTL_SECONDS, data));
    ResponseCode::NoError
}

/// Whether this is what we answer for the name.
pub(crate) fn is_address_of(address: IpAddr, name: &str) -> bool {
    match address {
        IpAddr::V4(address) => address == synthetic_v4(name),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => address == synthetic_v4(name),
            None => address == synthetic_v6(name),
        },
    }
}

/// In 198.18.0.0/15, which is set aside for benchmarks and routed nowhere. Stable per name; two names may share one.
fn synthetic_v4(name: &str) -> Ipv4Addr {
    let [a, b, c, d, ..] = digest(name);
    let offset = u32::from_be_bytes([a, b, c, d]) % ((1 << 17) - 2) + 1;
    Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + offset)
}

/// In 100::/64, the discard prefix.
fn synthetic_v6(name: &str) -> Ipv6Addr {
    let [a, b, c, d, e, f, g, h, ..] = digest(name);
    Ipv6Addr::from((0x0100u128 << 112) | u128::from(u64::from_be_bytes([a, b, c, d, e, f, g, h]) | 1))
}

fn digest(name: &str) -> [u8; 32] {
    Sha256::digest(name.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::{op::Query, rr::Name};
    use std::str::FromStr;

    fn ask(name: &str, kind: RecordType) -> Message {
        ask_name(Name::from_str(name).unwrap(), kind)
    }

    fn ask_name(name: Name, kind: RecordType) -> Message {
        let mut query = Message::query();
        query.add_query(Query::query(name, kind));
        Message::from_vec(&answer(&query.to_vec().unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn a_name_has_one_stable_address_of_each_kind() {
        let first = ask("example.com.", RecordType::A);
        let RData::A(address) = first.answers[0].data else { panic!("not an address") };
        assert!([198 << 8 | 18, 198 << 8 | 19].contains(&(u32::from(address.0) >> 16)));
        assert_eq!(ask("EXAMPLE.com.", RecordType::A).answers[0].data, first.answers[0].data);
        assert_ne!(ask("example.org.", RecordType::A).answers[0].data, first.answers[0].data);
        let RData::AAAA(address) = ask("example.com.", RecordType::AAAA).answers[0].data else {
            panic!("not an address")
        };
        assert_eq!(address.0.segments()[..4], [0x100, 0, 0, 0]);
    }

    #[test]
    fn other_kinds_are_empty_and_strange_names_do_not_exist() {
        let text = ask("example.com.", RecordType::TXT);
        assert_eq!((text.metadata.response_code, text.answers.len()), (ResponseCode::NoError, 0));
        let name = Name::from_labels([&b"a b"[..], b"example", b"com"]).unwrap();
        let strange = ask_name(name, RecordType::A);
        assert_eq!(strange.metadata.response_code, ResponseCode::NXDomain);
    }

    #[test]
    fn noise_and_responses_get_no_answer() {
        assert_eq!(answer(b"\x00"), None);
        assert_eq!(answer(&[0xff; 600]), None);
        let mut response = Message::response(1, OpCode::Query);
        response.add_query(Query::query(Name::from_str("a.org.").unwrap(), RecordType::A));
        assert_eq!(answer(&response.to_vec().unwrap()), None);
    }
}
