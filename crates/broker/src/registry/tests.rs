//! The canary: whatever a user's files hold, no credential of theirs is in what a sandbox gets.

use super::*;

const CANARY: &str = "canary7f3a";

fn inputs() -> RegistryInputs {
    let env = [
        ("npm_config_registry", "https://user:canary7f3a@npm.corp/"),
        ("NPM_CONFIG__AUTH", "canary7f3a"),
        ("npm_config_//npm.corp/:_authToken", "canary7f3a"),
        ("PIP_INDEX_URL", "https://canary7f3a@pypi.corp:8443/simple?token=canary7f3a"),
        ("PIP_EXTRA_INDEX_URL", "https://a.corp/x https://u:canary7f3a@b.corp/y"),
        ("PIP_PROXY", "http://u:canary7f3a@proxy:1"),
        ("PIP_DEFAULT_TIMEOUT", "180"),
        ("UV_INDEX", "https://u:canary7f3a@uv.corp/simple"),
        ("GOPROXY", "https://u:canary7f3a@go.corp|direct"),
        ("GONOSUMDB", "*.corp"),
        ("CARGO_REGISTRIES_INNER_TOKEN", "canary7f3a"),
        ("CARGO_REGISTRIES_INNER_INDEX", "sparse+https://u:canary7f3a@cargo.corp/index/"),
        ("GITHUB_TOKEN", "canary7f3a"),
    ];
    let npmrc = "//npm.corp/:_authToken=canary7f3a\n_password=canary7f3a\nregistry = \"https://u:canary7f3a@old.corp\"\n\
        @team:registry=https://canary7f3a@team.corp/\nstrict-ssl=false\nnodedir=/usr\ncafile=/home/x/canary7f3a\n\
        email=canary7f3a@x.org\nproxy=http://u:canary7f3a@p:1\nusername=canary7f3a\nkey=\"canary7f3a\"\n";
    let pip = "[global]\nindex-url = https://u:canary7f3a@pip.corp/simple\nextra-index-url =\n    https://u:canary7f3a@e1.corp\n\
        \x20   https://e2.corp/?key=canary7f3a\nclient-cert = /x/canary7f3a.pem\nproxy = http://canary7f3a@x\n\
        trusted-host = pip.corp\n[freeze]\ntimeout = canary7f3a\n";
    let cargo = r#"
        [source.crates-io]
        replace-with = "mirror"
        [source.mirror]
        registry = "sparse+https://u:canary7f3a@crates.corp/index/"
        [registries.inner]
        index = "https://u:canary7f3a@inner.corp/git/index"
        token = "canary7f3a"
        credential-provider = ["cargo:token-from-stdout", "canary7f3a"]
        [registry]
        default = "inner"
        token = "canary7f3a"
        [http]
        proxy = "u:canary7f3a@proxy:1"
        timeout = 60
        [env]
        SECRET = "canary7f3a"
        [build]
        rustc-wrapper = "canary7f3a"
    "#;
    let list = "deb [signed-by=/usr/share/keyrings/x.gpg] https://u:canary7f3a@apt.corp/debian stable main # canary7f3a\n\
        deb mirror+https://u:canary7f3a@m.corp/list stable main\n";
    let sources = "Types: deb\nURIs: http://u:canary7f3a@deb.corp/debian http://two.corp/\nSuites: stable\n";
    let conf = "Acquire::http::Proxy \"http://u:canary7f3a@proxy:3128\";\nAcquire::Retries \"3\";\n";
    RegistryInputs {
        env: env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        npmrc: vec![npmrc.into()],
        pip_conf: vec![pip.into()],
        cargo_config: vec![cargo.into()],
        apt: vec![
            ("/etc/apt/sources.list".into(), list.into()),
            ("/etc/apt/sources.list.d/a.sources".into(), sources.into()),
            ("/etc/apt/apt.conf.d/proxy".into(), conf.into()),
        ],
        extra_certificates: vec![
            format!(
                "-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\n\
                 -----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n# {CANARY}\n"
            )
            .into_bytes(),
        ],
        apt_auth: vec!["machine apt.corp login u password canary7f3a".into()],
        netrc: vec![
            "machine go.corp login u password canary7f3a\nmachine mail.corp login u password canary7f3a"
                .into(),
        ],
        cargo_credentials: vec!["[registries.inner]\ntoken = \"canary7f3a\"\n".into()],
        system_certificates: b"-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n".to_vec(),
    }
}

#[test]
fn an_authority_that_the_system_knows_is_still_named_to_programs_with_roots_of_their_own() {
    let both = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec();
    let mut settings = RegistrySettings::default();
    let inputs = RegistryInputs {
        system_certificates: both.clone(),
        extra_certificates: vec![both.clone(), both],
        ..RegistryInputs::default()
    };
    super::certificates::add(&inputs, &mut settings);
    assert_eq!((settings.certificates.system.len(), settings.certificates.extra.len()), (1, 1));
}

fn file(settings: &RegistrySettings, path: &str) -> String {
    let found = settings.files.iter().find(|(own, _)| own == path);
    String::from_utf8(found.unwrap_or_else(|| panic!("no {path}")).1.clone()).unwrap()
}

#[test]
fn no_credential_survives_in_any_setting() {
    let settings = settings(&inputs());
    for (path, bytes) in &settings.files {
        assert!(
            !String::from_utf8_lossy(bytes).contains(CANARY),
            "{path}: {}",
            String::from_utf8_lossy(bytes)
        );
    }
    assert!(!format!("{settings:?}").contains(CANARY), "{settings:?}");
    assert!(!format!("{:?}", inputs()).contains(CANARY));
}

#[test]
fn mirrors_survive_and_are_allowed_exactly() {
    let settings = settings(&inputs());
    let env = |name: &str| settings.env.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
    let npm = file(&settings, NPMRC);
    assert!(
        npm.contains("registry=https://npm.corp/\n") && npm.contains("@team:registry=https://team.corp/"),
        "{npm}"
    );
    assert!(npm.contains("nodedir=/usr\n"), "{npm}");
    assert_eq!(env("NPM_CONFIG_GLOBALCONFIG"), Some(NPMRC));
    assert_eq!(env("PIP_INDEX_URL"), Some("https://pypi.corp:8443/simple"));
    assert_eq!(env("PIP_EXTRA_INDEX_URL"), Some("https://a.corp/x https://b.corp/y"));
    assert_eq!(env("GOPROXY"), Some("https://go.corp/|direct"));
    assert_eq!(env("CARGO_REGISTRIES_INNER_INDEX"), Some("sparse+https://cargo.corp/index/"));
    let pip = file(&settings, PIP_CONF);
    assert!(pip.contains("extra-index-url = https://e1.corp/ https://e2.corp/"), "{pip}");
    let cargo = file(&settings, CARGO_CONFIG);
    assert!(
        cargo.contains("replace-with = \"mirror\"") && cargo.contains("sparse+https://crates.corp/index/"),
        "{cargo}"
    );
    let apt = file(&settings, "/etc/apt/sources.list");
    assert!(
        apt.contains("deb [signed-by=/usr/share/keyrings/x.gpg] https://apt.corp/debian stable main\n"),
        "{apt}"
    );
    assert!(apt.contains("mirror+https://m.corp/list"), "{apt}");
    assert_eq!(file(&settings, "/etc/apt/apt.conf.d/proxy"), "Acquire::Retries \"3\";\n");
    assert_eq!((settings.certificates.system.len(), settings.certificates.extra.len()), (1, 1));
    let hosts: Vec<String> = settings.hosts.iter().map(ToString::to_string).collect();
    for host in
        ["npm.corp:443", "pypi.corp:8443", "crates.corp:443", "deb.corp:80", "two.corp:80", "go.corp:443"]
    {
        assert!(hosts.contains(&host.to_owned()), "{host} in {hosts:?}");
    }
    assert!(settings.hosts.iter().all(|rule| rule.allow_private));
}

#[test]
fn an_installation_without_settings_gives_none() {
    assert_eq!(settings(&RegistryInputs::default()), RegistrySettings::default());
}

#[test]
fn files_are_found_where_the_tools_look() {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("home/.npmrc", "registry=https://npm.corp\n//npm.corp/:_authToken=canary7f3a\n");
    write(
        "home/.cargo/config.toml",
        "[registries.a]\nindex = \"https://a.corp/i\"\ntoken = \"canary7f3a\"\n",
    );
    write("etc/pip.conf", "[global]\nindex-url = https://pip.corp\n");
    write("etc/apt/sources.list.d/x.list", "deb http://apt.corp/ stable main\n");
    let home = root.path().join("home").display().to_string();
    let inputs = read_inputs(BTreeMap::from([("HOME".to_owned(), home)]), root.path());
    let settings = settings(&inputs);
    let paths: Vec<&str> = settings.files.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, [NPMRC, PIP_CONF, CARGO_CONFIG, "/etc/apt/sources.list.d/x.list"]);
    assert!(settings.files.iter().all(|(_, bytes)| !String::from_utf8_lossy(bytes).contains(CANARY)));
}

#[test]
fn settings_of_npm_and_pip_name_files_of_certificates() {
    let root = tempfile::tempdir().unwrap();
    let place = |name: &str| root.path().join(name);
    std::fs::create_dir_all(place("usr/etc")).unwrap();
    std::fs::create_dir_all(place("etc")).unwrap();
    for (name, letter) in [("npm.pem", "N"), ("pip.pem", "P")] {
        let text = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", letter.repeat(4));
        std::fs::write(place(name), text).unwrap();
    }
    std::fs::write(place("usr/etc/npmrc"), format!("cafile=\"{}\"\n", place("npm.pem").display())).unwrap();
    let pip = format!("[global]\ncert = {}\n", place("pip.pem").display());
    std::fs::write(place("etc/pip.conf"), pip).unwrap();
    let settings = settings(&read_inputs(BTreeMap::new(), root.path()));
    let bundle = settings.certificates.extra.concat();
    assert!(bundle.contains("NNNN") && bundle.contains("PPPP"), "{bundle}");
}

/// Where each credential is sent, and in which header.
fn sent(inputs: &RegistryInputs) -> Vec<String> {
    let settings = settings(inputs);
    let target =
        |one: &Arc<Injection>| one.targets().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let mut sent: Vec<String> = settings.credentials.iter().map(target).collect();
    sent.sort();
    sent
}

#[test]
fn each_credential_goes_to_the_host_it_was_configured_for_and_nowhere_else() {
    let sent = sent(&inputs());
    for expected in [
        "npm.corp",
        "old.corp",
        "team.corp",
        "pypi.corp:8443/simple",
        "b.corp/y",
        "uv.corp/simple",
        "go.corp",
        "cargo.corp/index",
        "pip.corp/simple",
        "e1.corp",
        "crates.corp/index",
        "inner.corp/git/index",
        "apt.corp/debian",
        "apt.corp",
        "http://deb.corp/debian",
    ] {
        assert!(sent.contains(&expected.to_owned()), "{expected} in {sent:#?}");
    }
    for never in ["proxy", "p:1", "mail.corp", "e2.corp"] {
        assert!(!sent.iter().any(|target| target.contains(never)), "{never} in {sent:#?}");
    }
}

#[test]
fn npm_credentials_are_read_in_all_their_forms() {
    let npmrc = "registry=http://plain.corp:4873/\n//plain.corp:4873/:_authToken=${NPM_TOKEN}\n//a.corp/x/:_auth=dTpw\n\
        //b.corp/:username=u\n//b.corp/:_password=cHc=\n";
    let inputs = RegistryInputs {
        npmrc: vec![npmrc.into()],
        env: BTreeMap::from([("NPM_TOKEN".to_owned(), "canary7f3a".to_owned())]),
        ..RegistryInputs::default()
    };
    assert_eq!(sent(&inputs), ["a.corp/x", "b.corp", "http://plain.corp:4873"]);
    let settings = settings(&inputs);
    let forms: Vec<Vec<u8>> = settings.credentials.iter().flat_map(|one| one.forms()).collect();
    for form in ["canary7f3a", "dTpw", "dTpwdw=="] {
        assert!(forms.contains(&form.as_bytes().to_vec()), "{form}");
    }
}
