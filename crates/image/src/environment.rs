//! The environment variables of steps, checks and sessions, from three places: defaults, the installation's set-up, the
//! recipe; the later wins.

use std::collections::BTreeMap;

const DEFAULTS: [(&str, &str); 4] = [
    ("HOME", "/root"),
    ("LANG", "C.UTF-8"),
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("TERM", "dumb"),
];

/// In the recipe's `PATH`, `${PATH}` is the path of the set-up (or the default one).
pub fn environment(setup: &[(String, String)], recipe: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut merged: BTreeMap<String, String> =
        DEFAULTS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    merged.extend(setup.iter().cloned());
    for (name, value) in recipe {
        let value = match merged.get(name) {
            Some(before) if name == "PATH" => value.replace("${PATH}", before),
            _ => value.clone(),
        };
        merged.insert(name.clone(), value);
    }
    merged.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipe_can_put_a_directory_before_the_installations_path() {
        let setup = [("PATH".to_owned(), "/tools:/bin".to_owned()), ("A".to_owned(), "1".to_owned())];
        let recipe = BTreeMap::from([
            ("PATH".to_owned(), "/opt/venv/bin:${PATH}".to_owned()),
            ("A".to_owned(), "${PATH}".to_owned()),
        ]);
        let merged: BTreeMap<_, _> = environment(&setup, &recipe).into_iter().collect();
        assert_eq!(merged["PATH"], "/opt/venv/bin:/tools:/bin");
        assert_eq!(merged["A"], "${PATH}");
        assert_eq!(merged["HOME"], "/root");
    }
}
