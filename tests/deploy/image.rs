//! The image: built without a daemon from k8s/Containerfile, and run by runc as Kubernetes would
//! run it: user 65532, a root that cannot be written, no capabilities.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::gate::{program, run};
use crate::support::{App, Dir, Gate, Signer, sender};

const FILE: &str = "k8s/Containerfile";
const LARGEST: u64 = 15 << 20;

/// The static program that `.ci/run` makes, and the tools; what is missing is said aloud.
fn ready(tools: &[&str]) -> Option<PathBuf> {
    for tool in tools {
        if program(tool).is_none() {
            eprintln!("SKIPPED: {tool} is not on PATH");
            return None;
        }
    }
    let target = Path::new(env!("CARGO_BIN_EXE_hookgate")).ancestors().nth(2).unwrap();
    let built = target.join("image/bin");
    if !built.join("hookgate").exists() {
        eprintln!("SKIPPED: {} is not there; {FILE} says how it is made", built.join("hookgate").display());
        return None;
    }
    Some(built)
}

fn done(command: &mut Command) {
    let done = run(command);
    assert_eq!(done.code, Some(0), "{command:?}: {}{}", done.out, done.err);
}

#[test]
fn the_containerfile_has_no_complaints() {
    if program("hadolint").is_none() {
        eprintln!("SKIPPED: hadolint is not on PATH");
        return;
    }
    done(Command::new("hadolint").arg(FILE));
    let version = format!("org.opencontainers.image.version=\"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(fs::read_to_string(FILE).unwrap().contains(&version), "{version}");
}

#[test]
fn the_program_is_small_and_needs_no_other_file() {
    let Some(built) = ready(&[]) else { return };
    let program = fs::read(built.join("hookgate")).unwrap();
    assert!(program.len() as u64 <= LARGEST, "{} bytes", program.len());
    // A program that needs a dynamic loader names it.
    let loader = b"/ld-linux";
    assert!(!program.windows(loader.len()).any(|window| window == loader), "it is not static");
}

/// Ends whatever is left of a container.
struct Container {
    state: PathBuf,
    name: String,
}

impl Container {
    fn runc(&self, args: &[&str]) -> Command {
        let mut command = Command::new("runc");
        command.arg("--root").arg(&self.state).args(args).arg(&self.name);
        command
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        _ = self.runc(&["delete", "--force"]).output();
    }
}

/// Builds the image and unpacks it into a bundle for runc.
fn bundle(built: &Path, dir: &Dir) -> PathBuf {
    let (image, layout, bundle) = ("hookgate:test", dir.join("oci"), dir.join("bundle"));
    let buildah = |command: &str| {
        let mut buildah = Command::new("buildah");
        buildah.args(["--storage-driver", "vfs", "--root"]).arg(dir.join("storage"));
        buildah.arg("--runroot").arg(dir.join("run")).arg(command);
        buildah
    };
    done(buildah("build").args(["--isolation", "chroot", "--tag", image, "--file", FILE]).arg(built));
    done(buildah("push").arg(image).arg(format!("oci:{}:test", layout.display())));
    let packed: u64 = fs::read_dir(layout.join("blobs/sha256"))
        .unwrap()
        .map(|blob| blob.unwrap().metadata().unwrap().size())
        .sum();
    eprintln!("the image has {packed} bytes, packed");
    assert!(packed <= LARGEST);
    done(
        Command::new("umoci")
            .args(["unpack", "--image"])
            .arg(format!("{}:test", layout.display()))
            .arg(&bundle),
    );
    bundle
}

#[test]
fn it_runs_with_no_rights_and_takes_an_event() {
    let Some(built) = ready(&["buildah", "umoci", "runc"]) else { return };
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        eprintln!("SKIPPED: only root may run containers here");
        return;
    }
    let app = App::ok();
    let dir = Dir::new();
    let bundle = bundle(&built, &dir);
    let builder = Gate::before(&app);

    let config = bundle.join("config.json");
    let mut spec: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    assert_eq!(spec["process"]["user"], json!({ "uid": 65532, "gid": 65532 }), "the image's own user");
    assert_eq!(spec["process"]["args"], json!(["/hookgate"]));
    assert_eq!(fs::read_dir(bundle.join("rootfs")).unwrap().count(), 1, "one file, no shell");
    spec["process"]["terminal"] = false.into();
    spec["process"]["capabilities"] = json!({});
    spec["process"]["noNewPrivileges"] = true.into();
    spec["process"]["env"] = json!([
        "HOOKGATE_PROVIDER=github",
        "HOOKGATE_SECRET_FILE=/etc/hookgate/secrets/key-1",
        "HOOKGATE_TRUSTED_PROXY=127.0.0.1/32",
        "HOOKGATE_LISTEN=127.0.0.1:0",
        "HOOKGATE_OPS_LISTEN=127.0.0.1:0",
        "HOOKGATE_SHUTDOWN_DELAY=0s",
        format!("HOOKGATE_UPSTREAM={}", app.url()),
    ]);
    spec["root"]["readonly"] = true.into();
    spec["mounts"].as_array_mut().unwrap().push(json!({
        "destination": "/etc/hookgate/secrets", "source": builder.dir().path(), "options": ["bind", "ro"],
    }));
    // As in a pod, application and gate share the loopback network.
    spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "network");
    fs::write(config, spec.to_string()).unwrap();

    let container = Container { state: dir.join("runc"), name: sender::unique("hookgate") };
    let gate = builder.start_as(container.runc(&["run", "--bundle", bundle.to_str().unwrap()]));
    let event =
        Signer::github().event().with("X-Forwarded-Proto", "https").with("X-Forwarded-For", "192.0.2.1");
    assert_eq!(gate.send(&event).said(), (200, "app".to_owned()));
    assert_eq!(gate.send(&event.clone().tampered()).status, 401);
    assert_eq!(app.requests().len(), 1);

    let state: Value = serde_json::from_str(&run(&mut container.runc(&["state"])).out).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", state["pid"])).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
    assert_eq!(field("Uid:"), "65532\t65532\t65532\t65532");
    for set in ["CapEff:", "CapPrm:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");

    // The probes of a container without a shell, from inside.
    let ask = ["/hookgate", "healthcheck", "--ops-listen", &gate.ops_address().to_string()];
    let mut exec = container.runc(&["exec"]);
    done(exec.args(ask));

    gate.signal("TERM");
    assert_eq!(gate.ended().code(), Some(0));
}
