//! A strict reader of the OpenMetrics text format 1.0, written from its specification and not from what we send.

use std::collections::{BTreeMap, HashSet};

/// Samples by name and labels as they are written.
#[derive(Debug)]
pub(crate) struct Exposition {
    samples: BTreeMap<String, f64>,
}

struct Family {
    name: String,
    kind: String,
}

impl Exposition {
    /// Panics at the first thing that the format does not allow.
    pub(crate) fn parse(text: &str) -> Self {
        let body = text.strip_suffix("# EOF\n").expect("the text ends with # EOF");
        let (mut samples, mut families, mut family) = (BTreeMap::new(), HashSet::new(), None::<Family>);
        let mut described = HashSet::new();
        for line in body.lines() {
            assert!(!line.is_empty() && line.trim() == line, "a line with blanks around it: {line:?}");
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let (what, name) = (words.next().unwrap(), words.next().expect("a name"));
                let rest = words.next().expect("a value");
                assert!(is_name(name), "{line}");
                assert!(described.insert((what.to_owned(), name.to_owned())), "twice: {line}");
                let is_next = family.as_ref().is_none_or(|known| known.name != name);
                if is_next {
                    assert!(families.insert(name.to_owned()), "a family in two places: {line}");
                    family = Some(Family { name: name.to_owned(), kind: "unknown".to_owned() });
                }
                let family = family.as_mut().unwrap();
                match what {
                    "TYPE" => {
                        assert!(["counter", "gauge", "histogram"].contains(&rest), "{line}");
                        rest.clone_into(&mut family.kind);
                    }
                    "UNIT" => assert!(name.ends_with(&format!("_{rest}")), "{line}"),
                    "HELP" => assert!(!rest.is_empty(), "{line}"),
                    _ => panic!("{line}"),
                }
                continue;
            }
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            let (name, labels) = split(series);
            let family = family.as_ref().expect("a family before its samples");
            let suffix = name.strip_prefix(&family.name).unwrap_or_else(|| panic!("of no family: {line}"));
            let allowed: &[&str] = match family.kind.as_str() {
                "counter" => &["_total"],
                "gauge" => &[""],
                "histogram" => &["_bucket", "_sum", "_count"],
                kind => panic!("{kind}: {line}"),
            };
            assert!(allowed.contains(&suffix), "{line}");
            assert_eq!(suffix == "_bucket", labels.iter().any(|(label, _)| label == "le"), "{line}");
            assert!(family.kind == "gauge" || value >= 0.0, "{line}");
            assert!(samples.insert(series.to_owned(), value).is_none(), "a series twice: {line}");
        }
        let parsed = Self { samples };
        parsed.check_histograms();
        parsed
    }

    /// Buckets are cumulative, and the last one is the count.
    fn check_histograms(&self) {
        let mut buckets: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        for (series, value) in &self.samples {
            let (name, labels) = split(series);
            let Some(base) = name.strip_suffix("_bucket") else { continue };
            let bound = labels.iter().find(|(label, _)| label == "le").unwrap().1.clone();
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().expect("a bound") };
            let others: Vec<_> = labels.iter().filter(|(label, _)| label != "le").collect();
            buckets.entry(format!("{base} {others:?}")).or_default().push((bound, *value));
        }
        assert!(!buckets.is_empty());
        for (name, mut bounds) in buckets {
            bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(bounds.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{name} is not cumulative");
            assert!(bounds.last().unwrap().0.is_infinite(), "{name} has no last bucket");
        }
    }

    /// The sum of the samples of this name whose labels have these values.
    pub(crate) fn value(&self, name: &str, wanted: &[(&str, &str)]) -> f64 {
        let fits = |series: &str| {
            let (found, labels) = split(series);
            let has = |(label, value): &(&str, &str)| labels.iter().any(|(l, v)| l == label && v == value);
            found == name && wanted.iter().all(has)
        };
        self.samples.iter().filter(|(series, _)| fits(series)).map(|(_, value)| value).sum()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.samples.keys().any(|series| split(series).0 == name)
    }
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A series' name and labels, unescaped.
fn split(series: &str) -> (String, Vec<(String, String)>) {
    let Some((name, rest)) = series.split_once('{') else {
        assert!(is_name(series), "{series}");
        return (series.to_owned(), vec![]);
    };
    assert!(is_name(name), "{series}");
    let mut rest = rest.strip_suffix('}').unwrap_or_else(|| panic!("{series}"));
    let mut labels = vec![];
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{series}"));
        assert!(is_name(label), "{series}");
        let (mut value, mut characters) = (String::new(), after.char_indices());
        let end = loop {
            match characters.next().unwrap_or_else(|| panic!("{series}")) {
                (at, '"') => break at,
                (_, '\\') => match characters.next().unwrap().1 {
                    'n' => value.push('\n'),
                    escaped @ ('"' | '\\') => value.push(escaped),
                    other => panic!("\\{other} in {series}"),
                },
                (_, character) => value.push(character),
            }
        };
        assert!(labels.iter().all(|(known, _)| known != label), "a label twice: {series}");
        labels.push((label.to_owned(), value));
        rest = &after[end + 1..];
        if !rest.is_empty() {
            rest = rest.strip_prefix(',').unwrap_or_else(|| panic!("{series}"));
        }
    }
    (name.to_owned(), labels)
}
