//! The image: built without a daemon from k8s/Containerfile, and run by runc as Kubernetes would
//! run it: user 65532, a root that cannot be written, no capabilities. Its first stage, which compiles, is given as it
//! came out of k8s/build: here is no registry to take a compiler's image from.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::gate::{program, run};
use crate::support::{App, Dir, Gate, Signer, sender};

const FILE: &str = "k8s/Containerfile";
/// Half of it is the inbox in two engines, the fetched keys with their roots, and the commands.
const LARGEST: u64 = 18 << 20;

/// The static program that k8s/build makes, in target/image/out, and the tools; what is missing is said aloud.
fn ready(tools: &[&str]) -> Option<PathBuf> {
    for tool in tools {
        if program(tool).is_none() {
            eprintln!("SKIPPED: {tool} is not on PATH");
            return None;
        }
    }
    let target = Path::new(env!("CARGO_BIN_EXE_hookgate")).ancestors().nth(2).unwrap();
    let built = target.join("image");
    if !built.join("out/hookgate").exists() {
        eprintln!("SKIPPED: {} is not there: k8s/build makes it", built.join("out/hookgate").display());
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
    let program = fs::read(built.join("out/hookgate")).unwrap();
    assert!(program.len() as u64 <= LARGEST, "{} bytes", program.len());
    // A program that needs a dynamic loader names it.
    let loader = b"/ld-linux";
    assert!(!program.windows(loader.len()).any(|window| window == loader), "it is not static");
}

/// The list of what it was built of stands in it, where scanners look for it: a section that holds packed JSON.
#[test]
fn the_program_names_its_dependencies() {
    let Some(built) = ready(&["objcopy"]) else { return };
    let dir = Dir::new();
    let section = dir.join("dependencies");
    let named = format!(".dep-v0={}", section.display());
    done(
        Command::new("objcopy")
            .args(["--dump-section", &named])
            .arg(built.join("out/hookgate"))
            .arg(dir.join("copy")),
    );
    let mut text = String::new();
    let mut packed = flate2::read::ZlibDecoder::new(fs::File::open(section).unwrap());
    std::io::Read::read_to_string(&mut packed, &mut text).unwrap();
    let list: Value = serde_json::from_str(&text).unwrap();
    let version = |name: &str| {
        let packages = list["packages"].as_array().unwrap();
        packages.iter().find(|package| package["name"] == name).map(|package| package["version"].clone())
    };
    assert_eq!(version("hookgate"), Some(env!("CARGO_PKG_VERSION").into()));
    assert!(version("pingora").is_some() && version("rustls").is_some(), "{text}");
}

/// Nothing in it tells where it was built, so that the same sources make the same bytes anywhere.
#[test]
fn the_program_knows_no_folder_of_the_machine_that_built_it() {
    let Some(built) = ready(&[]) else { return };
    let program = fs::read(built.join("out/hookgate")).unwrap();
    let holds = |text: &str| program.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(!holds(env!("CARGO_MANIFEST_DIR")), "{}", env!("CARGO_MANIFEST_DIR"));
    assert!(!holds("/.cargo/registry/"), "where the crates' sources were");
    assert!(holds("/cargo/registry/"), "what stands there instead");
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
    let stage = format!("build={}", built.display());
    done(
        buildah("build")
            .args(["--isolation", "chroot", "--build-context", &stage, "--tag", image, "--file", FILE])
            .arg("."),
    );
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
