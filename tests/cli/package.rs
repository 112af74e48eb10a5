//! What a package is made of is there, and fits together.

use std::fs;
use std::path::Path;
use std::process::Command;

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The files of Debian's package: where each comes from and goes to.
fn assets() -> Vec<(String, String)> {
    let manifest = read("Cargo.toml");
    let assets = manifest.split_once("\nassets = [\n").unwrap().1;
    let assets = assets.split_once("\n]").unwrap().0;
    let row = |line: &str| {
        let parts: Vec<_> = line
            .split('"')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect();
        (parts[0].clone(), parts[1].clone())
    };
    assets.lines().map(row).collect()
}

#[test]
fn every_file_of_the_package_is_there_but_for_what_is_built() {
    let assets = assets();
    for (from, _) in &assets {
        let is_built = from.starts_with("target/");
        if let Some(folder) = from.strip_suffix("/*.md") {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            let pages = fs::read_dir(folder).unwrap().map_while(Result::ok);
            let pages = pages.filter(|page| page.path().extension().is_some_and(|end| end == "md"));
            assert!(pages.count() > 0, "{from}");
            continue;
        }
        assert!(is_built || !read(from).is_empty(), "{from}");
    }
    let goes = |to: &str| assets.iter().any(|(_, found)| found == to);
    for to in [
        "usr/bin/",
        "etc/weir/",
        "usr/share/man/man1/",
        "usr/lib/systemd/system/",
    ] {
        assert!(goes(to), "{to}");
    }
    let built: Vec<_> = assets
        .iter()
        .filter(|(from, _)| from.starts_with("target/"))
        .collect();
    assert_eq!(
        built.len(),
        2,
        "the program and the licences of others: {built:?}"
    );
    assert!(read("deploy/build-deb").contains("target/package/THIRD-PARTY.txt"));
}

#[test]
fn the_service_starts_what_the_package_installs() {
    let service = read("deploy/weir.service");
    for line in [
        "ExecStart=/usr/bin/weir",
        "EnvironmentFile=-/etc/weir/weir.env",
        "Sockets=weir.socket weir-metrics.socket",
    ] {
        assert!(service.lines().any(|found| found == line), "{line}");
    }
    assert!(read("Cargo.toml").contains("conf-files = [\"/etc/weir/weir.env\"]"));
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        read("deploy/debian/changelog").starts_with(&format!("weir ({version}-")),
        "a new version is told of"
    );
}

#[test]
fn the_maintainers_scripts_are_sound_and_leave_sockets_alone_at_an_upgrade() {
    for name in ["postinst", "prerm", "postrm"] {
        let path = format!("deploy/debian/{name}");
        let parsed = Command::new("sh")
            .args(["-n", &path])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(parsed.unwrap().success(), "{name}");
    }
    let postinst = read("deploy/debian/postinst");
    assert!(postinst.contains("try-restart weir.service"));
    assert!(!postinst.contains("restart weir.socket") && !postinst.contains("invoke start"));
}

#[test]
fn the_profile_for_containers_is_json_that_allows_io_uring() {
    let profile: serde_json::Value = serde_json::from_str(&read("deploy/seccomp.json")).unwrap();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ALLOW");
    let names = profile["syscalls"][0]["names"].as_array().unwrap();
    assert!(names.iter().any(|name| name == "ptrace"));
    assert!(
        !names
            .iter()
            .any(|name| name.as_str().unwrap().starts_with("io_uring"))
    );
}
