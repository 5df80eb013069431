//! A real distribution: dynamic linking, apt, dpkg, perl, thousands of files. The tree is shared and read-only.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use crate::bundle::Image;
use crate::case::Case;
use crate::running::Output;
use crate::stage::Stage;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("debian::os_release", |stage| {
            let release =
                fs::read_to_string(Image::Debian.path().join("etc/os-release")).expect("os-release");
            assert!(release.contains("bookworm"));
            debian(stage, &["cat", "/etc/os-release"]).assert(0, &release);
        }),
        Case::new("debian::dpkg_knows_every_package", dpkg).cost(2),
        Case::new("debian::perl", |stage| {
            let script =
                "use POSIX; print join(',', map { $_ * $_ } 1..5), ' ', POSIX::floor(2.5), qq{\\n}; exit 6";
            debian(stage, &["perl", "-e", script]).assert(6, "1,4,9,16,25 2\n");
        }),
        Case::new("debian::apt_get", |stage| {
            let output = debian(stage, &["apt-get", "--version"]);
            output.assert_status(0);
            assert!(output.stdout_text().starts_with("apt 2."), "{output:?}");
        }),
        Case::new("debian::pipeline", |stage| {
            let script = "set -o pipefail; ls /usr/bin | sort -r | grep -v perl | tail -n +3 | wc -l";
            let tree = Image::Debian.path().join("usr/bin");
            let names = fs::read_dir(tree).expect("usr/bin").flatten();
            let count =
                names.filter(|entry| !entry.file_name().to_string_lossy().contains("perl")).count() - 2;
            debian(stage, &["bash", "-c", script]).assert(0, &format!("{count}\n"));
        }),
        Case::new("debian::the_whole_tree_is_there", whole_tree).cost(4),
        Case::new("debian::contents_are_the_same", contents).cost(4),
        Case::new("debian::file_written_in_a_bind_mount", bind_mount),
    ]
}

fn debian(stage: &Stage, args: &[&str]) -> Output {
    stage.shared(Image::Debian, args).run()
}

/// What the host finds in the same tree.
fn on_host(script: &str) -> String {
    let output = Command::new("bash").arg("-c").arg(script).current_dir(Image::Debian.path()).output();
    let output = output.expect("bash");
    assert!(output.status.success(), "{script}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn dpkg(stage: &Stage) {
    let database =
        fs::read_to_string(Image::Debian.path().join("var/lib/dpkg/status")).expect("dpkg's status");
    let count = database.lines().filter(|line| *line == "Status: install ok installed").count();
    assert!(count > 50);
    let output = debian(stage, &["dpkg", "-l"]);
    output.assert_status(0);
    let listed = output.stdout_text().lines().filter(|line| line.starts_with("ii ")).count();
    assert_eq!(listed, count, "{output:?}");
}

fn whole_tree(stage: &Stage) {
    let script = "find usr etc var -printf '%p %y %m %U %G %s %l\\n' | LC_ALL=C sort";
    let here = on_host(script);
    assert!(here.lines().count() > 5000);
    // Directory sizes are the host filesystem's own business, yet the same by way of a share.
    let output = stage.shared(Image::Debian, &["bash", "-c", script]).run();
    output.assert_status(0);
    let there = output.stdout_text();
    let differs = here.lines().zip(there.lines()).find(|(left, right)| left != right);
    assert!(
        here == there,
        "{} names here, {} there; first difference: {differs:?}",
        here.lines().count(),
        there.lines().count()
    );
}

fn contents(stage: &Stage) {
    let script =
        "find usr/lib/*/perl-base etc usr/lib/apt -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum";
    let here = on_host(script);
    assert!(here.lines().count() > 200);
    stage.shared(Image::Debian, &["bash", "-c", script]).run().assert(0, &here);
}

fn bind_mount(stage: &Stage) {
    let out = stage.directory("out");
    let script = "dpkg-query -W -f '${Package}\\n' apt >/out/package && chown 33:33 /out/package && chmod 640 /out/package";
    let bundle = stage.shared(Image::Debian, &["bash", "-c", script]).bind(&out, "/mnt", &["rbind", "rw"]);
    let bundle = bundle.with(|config| {
        config["process"]["args"][2] = serde_json::json!(script.replace("/out", "/mnt"));
    });
    bundle.run().assert(0, "");
    let file = out.join("package");
    assert_eq!(fs::read_to_string(&file).expect("the file is on the host"), "apt\n");
    let metadata = fs::metadata(&file).expect("metadata");
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (33, 33, 0o640));
}
