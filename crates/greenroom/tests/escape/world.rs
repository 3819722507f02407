//! What the attempts are made against: a host with things to reach, a broker with a policy, and two sandboxes.

use async_trait::async_trait;
use greenroom_broker::{
    AllowRule, Broker, Denial, DenyLog, Outside, PolicySource, Resolver, SandboxPolicy, UpstreamProxy,
};
use greenroom_domain::SessionId;
use greenroom_forge::LocalForge;
use greenroom_sandbox::{
    Base, ClaimSpec, ExecEvent, ExecSpec, Exit, Fence, Origin, ReadOnlyBind, Resources, Sandbox,
    SandboxProvider, Workspace,
};
use greenroom_sandboxd::{LocalProvider, LocalSettings};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

/// Nothing here takes longer on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
const PYTHON: &str = "/usr/bin/python3";
const ATTEMPTS: &str = include_str!("attempts.py");
const SCRIPT: &str = "/var/tmp/attempts.py";
const FACTS: &str = "/var/tmp/facts.json";
/// What the host's own servers answer: whoever reads it has reached one.
const WORD: &str = "the-hosts-own-word";
/// An address of this machine's loopback that no policy allows.
const EVIL_ADDRESS: &str = "127.0.0.5";

/// How an attempt ended.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) reached: Option<String>,
    pub(crate) how: String,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) provider: Arc<LocalProvider>,
    pub(crate) first: Arc<dyn Sandbox>,
    pub(crate) second: Arc<dyn Sandbox>,
    pub(crate) facts: Value,
    pub(crate) names: Arc<Names>,
    policies: Arc<Policies>,
    scratch: tempfile::TempDir,
    _marker: Marker,
    _listeners: Vec<UnixListener>,
}

impl World {
    pub(crate) async fn new(settings: LocalSettings) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let secret = unique("secret");
        let data = scratch.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let secret_file = data.join("master.key");
        std::fs::write(&secret_file, &secret).unwrap();
        let read_only = scratch.path().join("tools");
        std::fs::create_dir(&read_only).unwrap();
        let (policies, names) = (Arc::<Policies>::default(), Arc::<Names>::default());
        let forge = Arc::new(LocalForge::open(&data.join("forge")).unwrap());
        let outside = Outside {
            resolver: names.clone(),
            proxy: UpstreamProxy::default(),
            tls: greenroom_broker::client(vec![]),
            authority: None,
        };
        let broker = Broker::new(policies.clone(), forge, Arc::new(Silence), outside);
        policies.allow(&["allowed.test", "rebind.test", "rebind.test:*"]);
        let port = word_servers().await;
        names.put("allowed.test", "127.0.0.9");
        names.put("rebind.test", "127.0.0.1");
        names.put("evil.test", EVIL_ADDRESS);
        let provider = LocalProvider::start(settings, Arc::new(broker)).await.unwrap();
        let claim = |name: &str, resources: Resources| ClaimSpec {
            id: unique(name),
            fence: Fence { session: unique("session"), epoch: 1, generation: 1 },
            base: Base::HostRoot,
            layers: vec![],
            workspace: Workspace { directory: scratch.path().join(name), begin_from: None },
            binds: vec![ReadOnlyBind { source: read_only.clone(), target: "/opt/tools".into() }],
            egress_ports: vec![],
            resources,
            hostname: "room".into(),
            env: vec![],
            is_background: false,
        };
        let first = provider.claim(claim("first", bounded())).await.unwrap();
        let second = provider.claim(claim("second", bounded())).await.unwrap();
        first.write_file(SCRIPT, ATTEMPTS.as_bytes()).await.unwrap();
        let (abstract_name, other_abstract) = (unique("abstract"), unique("abstract"));
        let unix = scratch.path().join("control.sock");
        let listeners = vec![
            UnixListener::bind_addr(&SocketAddr::from_abstract_name(&abstract_name).unwrap()).unwrap(),
            UnixListener::bind(&unix).unwrap(),
        ];
        let host_marker = unique("host-process");
        let marker = std::process::Command::new("/bin/sleep")
            .arg("3600")
            .env("NAME", &host_marker)
            .arg0_marker(&host_marker)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let marker = Marker(marker);
        let facts = json!({
            "secret": secret,
            "secret_file": secret_file,
            "data": data,
            "other_workspace": scratch.path().join("second"),
            "read_only": "/opt/tools",
            "disk": disk_of(scratch.path()),
            "host_pid": marker.0.id(),
            "host_marker": host_marker,
            "other_marker": unique("neighbour"),
            "abstract": abstract_name,
            "other_abstract": other_abstract,
            "unix": unix,
            "ipc_key": 0x5eed,
            "other_shm": unique("shm"),
            "word": WORD,
            "port": port.tcp,
            "udp_port": port.udp,
            "host_addresses": host_addresses(),
        });
        first.write_file(FACTS, facts.to_string().as_bytes()).await.unwrap();
        let world = Self {
            provider,
            first,
            second,
            facts,
            names,
            policies,
            scratch,
            _marker: marker,
            _listeners: listeners,
        };
        world.furnish_the_second().await;
        world
    }

    /// What the first sandbox may look for in the second: a process, a socket, shared memory of both kinds.
    async fn furnish_the_second(&self) {
        let fact = |name: &str| self.facts[name].as_str().unwrap().to_owned();
        let script = format!(
            "import ctypes,socket,time,os\ns=socket.socket(socket.AF_UNIX); s.bind('\\0{}'); s.listen()\n\
             open('/dev/shm/{}','w').write('x')\n\
             assert ctypes.CDLL(None).shmget({},4096,0o1600)>=0\nprint('ready',flush=True)\ntime.sleep(3600)",
            fact("other_abstract"),
            fact("other_shm"),
            self.facts["ipc_key"],
        );
        let mut spec = shell("furniture", "");
        spec.argv = [PYTHON, "-c", &script, &fact("other_marker")].map(str::to_owned).to_vec();
        spec.timeout_ms = 3_600_000;
        let mut events = self.second.exec(spec).await.unwrap();
        match tokio::time::timeout(PATIENCE, events.recv()).await.unwrap() {
            Some(ExecEvent::Output { bytes, .. }) if bytes.starts_with(b"ready") => {}
            other => panic!("the second sandbox is not furnished: {other:?}"),
        }
        // Somebody has to take what it prints.
        tokio::spawn(async move { while events.recv().await.is_some() {} });
    }

    pub(crate) fn scratch(&self) -> &std::path::Path {
        self.scratch.path()
    }

    /// Makes one attempt in the first sandbox.
    pub(crate) async fn attempt(&self, name: &str) -> Verdict {
        let mut spec = shell(&unique("attempt"), "");
        spec.argv = [PYTHON, SCRIPT, name, FACTS].map(str::to_owned).to_vec();
        spec.timeout_ms = 110_000;
        let (output, exit) = finish(&*self.first, spec).await;
        verdict(name, &output, &format!("{:?}", exit.reason))
    }

    /// Makes the same attempt outside, where it must succeed.
    pub(crate) async fn control(&self, name: &str) -> Verdict {
        let script = self.scratch.path().join("attempts.py");
        std::fs::write(&script, ATTEMPTS).unwrap();
        let facts = self.scratch.path().join("facts.json");
        std::fs::write(&facts, self.facts.to_string()).unwrap();
        let run =
            tokio::process::Command::new(PYTHON).arg(script).arg(name).arg(facts).kill_on_drop(true).output();
        let output = tokio::time::timeout(PATIENCE, run).await.unwrap().unwrap();
        verdict(name, &String::from_utf8_lossy(&output.stdout), &format!("{:?}", output.status))
    }

    /// Lets the sandboxes reach a host of a private network, as an administrator may.
    pub(crate) fn allow_private(&self, rule: &str) {
        let rule = AllowRule::parse(rule).unwrap().private();
        self.policies.0.lock().unwrap().push(rule);
    }

    /// Everything else still works: another sandbox can be had and answers.
    pub(crate) async fn is_responsive(&self) {
        let spec = ClaimSpec {
            id: unique("bystander"),
            fence: Fence { session: unique("bystander"), epoch: 1, generation: 1 },
            base: Base::HostRoot,
            layers: vec![],
            workspace: Workspace {
                directory: self.scratch.path().join(unique("bystander")),
                begin_from: None,
            },
            binds: vec![],
            egress_ports: vec![],
            resources: bounded(),
            hostname: "bystander".into(),
            env: vec![],
            is_background: false,
        };
        let sandbox = tokio::time::timeout(PATIENCE, self.provider.claim(spec)).await.unwrap().unwrap();
        let (output, _) = finish(&*sandbox, shell("hello", "echo fine")).await;
        assert_eq!(output, "fine\n");
        sandbox.destroy().await.unwrap();
        let (output, _) = finish(&*self.second, shell(&unique("hello"), "echo fine")).await;
        assert_eq!(output, "fine\n", "the neighbour of an attack goes on");
    }

    pub(crate) async fn end(self) {
        self.provider.shutdown().await.unwrap();
    }
}

/// A process of the host that sandboxes look for.
#[derive(Debug)]
struct Marker(std::process::Child);

impl Drop for Marker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the sandboxes of these tests may use.
pub(crate) fn bounded() -> Resources {
    Resources {
        memory_bytes: Some(512 << 20),
        cpu_millis: Some(1000),
        processes: Some(256),
        disk_bytes: Some(256 << 20),
    }
}

/// The names of all attempts.
pub(crate) fn names() -> Vec<String> {
    let mut python = std::process::Command::new(PYTHON);
    let list = python.args(["-c", ATTEMPTS, "--list"]).output().expect("python3 is installed");
    serde_json::from_slice(&list.stdout).expect("a list of names")
}

fn verdict(name: &str, output: &str, end: &str) -> Verdict {
    let line = output.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
    match line {
        Some(line) => Verdict {
            reached: line["reached"].as_str().map(str::to_owned),
            how: line["how"].as_str().unwrap_or_default().to_owned(),
        },
        // A signal is a refusal; a fault of the script is not.
        None if end.contains("Signal") => Verdict { reached: None, how: end.to_owned() },
        None => panic!("the attempt {name} could not be made ({end}):\n{output}"),
    }
}

/// What a run printed, and how it ended.
pub(crate) async fn finish(sandbox: &dyn Sandbox, spec: ExecSpec) -> (String, Exit) {
    let call = spec.call.clone();
    let work = async {
        let mut events = sandbox.exec(spec).await.unwrap();
        let mut output = vec![];
        loop {
            match events.recv().await.unwrap_or_else(|| panic!("the outcome of {call} is unknown")) {
                ExecEvent::Output { bytes, .. } => output.extend(bytes),
                ExecEvent::Exit(exit) => break (String::from_utf8_lossy(&output).into_owned(), exit),
            }
        }
    };
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("{call:?} does not end"))
}

/// A run of `sh -c script`.
pub(crate) fn shell(call: &str, script: &str) -> ExecSpec {
    ExecSpec {
        call: call.into(),
        argv: ["/bin/sh", "-c", script].map(String::from).to_vec(),
        cwd: "/".into(),
        env: vec![],
        stdin: vec![],
        timeout_ms: 30_000,
        output_limit_bytes: 1 << 20,
        is_read_only: false,
    }
}

pub(crate) fn unique(kind: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{kind}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

trait Marked {
    fn arg0_marker(&mut self, marker: &str) -> &mut Self;
}

impl Marked for std::process::Command {
    /// Shows in the process's command line.
    fn arg0_marker(&mut self, marker: &str) -> &mut Self {
        std::os::unix::process::CommandExt::arg0(self, marker)
    }
}

struct Ports {
    tcp: u16,
    udp: u16,
}

/// Servers of the host that nobody inside may reach: on every address, and, as root, on the ports that names lead to.
async fn word_servers() -> Ports {
    let any = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let tcp = any.local_addr().unwrap().port();
    let mut listeners = vec![any];
    for address in [format!("[::1]:{tcp}"), format!("{EVIL_ADDRESS}:80"), format!("{EVIL_ADDRESS}:443")] {
        // Without the right to it there is less to reach.
        listeners.extend(TcpListener::bind(address).await);
    }
    for listener in listeners {
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let _ = stream.read(&mut [0; 4096]).await;
                    let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{WORD}");
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
    }
    let socket = UdpSocket::bind("0.0.0.0:0").await.unwrap();
    let udp = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((_, peer)) = socket.recv_from(&mut [0; 512]).await {
            let _ = socket.send_to(WORD.as_bytes(), peer).await;
        }
    });
    Ports { tcp, udp }
}

/// Addresses of this machine besides loopback.
fn host_addresses() -> Vec<String> {
    let output = std::process::Command::new("hostname").arg("-I").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.split_whitespace().filter(|address| !address.contains(':')).map(str::to_owned).collect()
}

fn disk_of(path: &std::path::Path) -> (u32, u32) {
    let device = rustix::fs::stat(path).unwrap().st_dev;
    (rustix::fs::major(device), rustix::fs::minor(device))
}

#[derive(Debug, Default)]
struct Policies(Mutex<Vec<AllowRule>>);

impl Policies {
    fn allow(&self, rules: &[&str]) {
        let rules = rules.iter().filter_map(|rule| AllowRule::parse(rule).ok());
        self.0.lock().unwrap().extend(rules);
    }
}

#[async_trait]
impl PolicySource for Policies {
    async fn policy(&self, _origin: &Origin) -> Option<SandboxPolicy> {
        let allow = self.0.lock().unwrap().clone();
        let session = Some(SessionId::from_parts(1, 1));
        Some(SandboxPolicy { session, repositories: vec![], push: None, allow, injections: vec![] })
    }
}

#[derive(Debug)]
struct Silence;

impl DenyLog for Silence {
    fn denied(&self, _denial: Denial) {}
}

/// The host's names, and which were asked for.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: Mutex<HashMap<String, IpAddr>>,
    asked: Mutex<Vec<String>>,
}

impl Names {
    fn put(&self, name: &str, address: &str) {
        self.known.lock().unwrap().insert(name.to_owned(), address.parse().unwrap());
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait]
impl Resolver for Names {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.asked.lock().unwrap().push(name.to_owned());
        let found = self.known.lock().unwrap().get(name).copied();
        found.map(|address| vec![address]).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Where a world of these tests may lie for an ordinary user.
pub(crate) fn copy_of_this_program(home: &std::path::Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let program = home.join("escape");
    // By another program: a descriptor of ours would be inherited by whatever another test starts meanwhile, and a
    // program that somebody may still write to cannot be started.
    let copied =
        std::process::Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program).status();
    assert!(copied.unwrap().success());
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}
