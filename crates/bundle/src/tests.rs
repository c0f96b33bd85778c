//! The archive checks as a specification: what is taken, and each refusal with its reason.

mod archive;

use std::{fs, path::Path, process::Command};

use archive::{Archive, gzip};
use portico_base::{Reason, reason};

use crate::{Contents, Entries, Kind, Limits, check, unpack};

fn contents(bundle: &[u8]) -> Contents {
    check(bundle, Limits::default()).expect("a bundle that is in order")
}

fn refusal(bundle: &[u8], limits: Limits) -> (Reason, String) {
    let error = check(bundle, limits).expect_err("a bundle that is refused");
    (error.reason(), error.to_string())
}

#[track_caller]
fn assert_refused(bundle: &[u8], expected: Reason, saying: &str) {
    let (reason, message) = refusal(bundle, Limits::default());
    assert_eq!(reason, expected, "{message}");
    assert!(message.contains(saying), "{message:?} does not say {saying:?}");
}

#[track_caller]
fn assert_unsafe(archive: Archive, saying: &str) {
    assert_refused(&archive.gzip(), reason::UNSAFE_ARCHIVE_ENTRY, saying);
}

#[test]
fn an_ordinary_bundle_is_taken() {
    let bundle = Archive::new()
        .directory("./")
        .file("./agent.json", b"{}")
        .file("src/main.py", &[b'x'; 5_000])
        .directory("src/")
        .symlink("src/here", "../src/main.py")
        .hardlink("copy.py", "./src/main.py")
        .gzip();
    let found = contents(&bundle);
    assert_eq!((found.entries, found.files, found.file_bytes), (6, 2, 5_002));
    assert!(found.warnings.is_empty());
}

#[test]
fn bytes_that_are_no_gzip_are_refused() {
    assert_refused(b"", reason::EMPTY_BUNDLE, "empty");
    assert_refused(b"PK\x03\x04", reason::NOT_GZIP, "gzip");
    assert_refused(b"\x1f", reason::NOT_GZIP, "gzip");
}

#[test]
fn damaged_gzip_is_refused() {
    let good = Archive::new().file("a", b"1").gzip();
    let mut bad_checksum = good.clone();
    let at = bad_checksum.len() - 6;
    bad_checksum[at] ^= 1;
    assert_refused(&bad_checksum, reason::CORRUPT_GZIP, "damaged");
    assert_refused(&good[..good.len() - 4], reason::CORRUPT_GZIP, "truncated");
    assert_refused(&[&good[..], b"junk"].concat(), reason::CORRUPT_GZIP, "follow");
    assert_refused(&[&good[..], &[0; 8]].concat(), reason::CORRUPT_GZIP, "follow");
}

#[test]
fn every_member_of_a_gzip_stream_is_decoded() {
    let tar = Archive::new().file("a", b"1").file("b", b"2").finish();
    let split = [gzip(&tar[..700]), gzip(&tar[700..])].concat();
    assert_eq!(contents(&split).files, 2);
    let hidden = [gzip(&tar), gzip(&Archive::new().file("c", b"3").finish())].concat();
    assert_refused(&hidden, reason::CORRUPT_TAR, "follow the end");
    let crowd = [gzip(&tar), gzip(b"").repeat(5_000)].concat();
    assert_refused(&crowd, reason::BUNDLE_EXPANDS_TOO_LARGE, "gzip streams");
}

#[test]
fn what_is_no_tar_archive_is_refused() {
    assert_refused(&gzip(b""), reason::NOT_TAR, "tar");
    assert_refused(&gzip(b"hello"), reason::NOT_TAR, "tar");
    assert_refused(&gzip(&[7; 1_024]), reason::NOT_TAR, "tar");
    assert_refused(&Archive::new().gzip(), reason::EMPTY_BUNDLE, "no regular file");
    assert_refused(&Archive::new().directory("a/").gzip(), reason::EMPTY_BUNDLE, "no regular file");
}

#[test]
fn a_damaged_tar_archive_is_refused() {
    let tar = Archive::new().file("a", &[1; 600]).file("b", b"2").finish();
    assert_refused(&gzip(&tar[..512 + 100]), reason::CORRUPT_TAR, "truncated");
    assert_refused(&gzip(&tar[..512 * 3]), reason::CORRUPT_TAR, "truncated");
    assert_refused(&gzip(&tar[..512 * 6]), reason::CORRUPT_TAR, "two zero blocks");
    let mut damaged = tar.clone();
    damaged[512 * 3] ^= 1;
    assert_refused(&gzip(&damaged), reason::CORRUPT_TAR, "header is damaged");
    let mut size = Archive::new();
    size.push(b'0', b"a", b"", b"0000000000x\0", 0o644, b"");
    assert_refused(&size.gzip(), reason::CORRUPT_TAR, "malformed size");
}

#[test]
fn paths_that_leave_or_confuse_are_refused() {
    let deep = vec!["d"; 65].join("/");
    let long = vec!["x".repeat(100); 11].join("/");
    for (path, saying) in [
        ("/etc/passwd", "absolute"),
        ("../up", "upwards"),
        ("a/../../up", "upwards"),
        ("a/..", "upwards"),
        ("C:/windows", "drive"),
        ("//server/share", "absolute"),
        ("a\\b", "backslash"),
        (".", "root"),
        (&deep, "too deep"),
        (&long, "too long"),
        (&"n".repeat(256), "longer than 255 bytes"),
    ] {
        assert_unsafe(Archive::new().file(path, b""), saying);
    }
    assert_unsafe(Archive::new().entry(b'0', b"caf\xe9", b"", 0o644, b""), "UTF-8");
}

#[test]
fn extension_headers_count_before_the_rules() {
    let shorter = Archive::new().pax(&[("path", b"../up")]).file("harmless", b"");
    assert_unsafe(shorter, "upwards");
    assert_unsafe(Archive::new().long_name(b"/etc/passwd").file("harmless", b""), "absolute");
    assert_unsafe(Archive::new().pax(&[("linkpath", b"/etc")]).symlink("link", "harmless"), "absolute");
    assert_unsafe(Archive::new().pax(&[("path", b"a\0b")]).file("harmless", b""), "zero byte");
    assert_unsafe(Archive::new().pax(&[("GNU.sparse.major", b"1")]).file("harmless", b""), "sparse");

    // A reader that misses the size would take the content of this file for the next header.
    let mut hides = Archive::new().pax(&[("size", b"1024")]);
    let inner = Archive::new().file("hidden", b"").finish();
    hides.push(b'0', b"outer", b"", b"00000000000\0", 0o644, &inner[..1_024]);
    let bundle = hides.file("after", b"").gzip();
    let mut entries = Entries::new(&bundle[..], Limits::default());
    let outer = entries.next().unwrap().unwrap();
    assert_eq!((outer.path.as_str(), outer.size), ("outer", 1_024));
    assert_eq!(entries.next().unwrap().unwrap().path, "after");
    assert_eq!(entries.next().unwrap(), None);

    let both = Archive::new().long_name(b"one").pax(&[("path", b"two")]).file("three", b"");
    assert_refused(&both.gzip(), reason::CORRUPT_TAR, "different things");
    let global = Archive::new().entry(b'g', b"g", b"", 0o644, b"13 path=evil\n").file("a", b"");
    assert_refused(&global.gzip(), reason::CORRUPT_TAR, "global");
    let malformed = Archive::new().entry(b'x', b"x", b"", 0o644, b"99 path=evil\n").file("a", b"");
    assert_refused(&malformed.gzip(), reason::CORRUPT_TAR, "malformed");
    let alone = Archive::new().file("a", b"").pax(&[("path", b"b")]);
    assert_refused(&alone.gzip(), reason::CORRUPT_TAR, "no entry");
}

#[test]
fn links_stay_inside_and_nothing_passes_through_them() {
    for (target, saying) in [("/etc", "absolute"), ("../../up", "out of"), ("", "empty"), ("x/../../../up", "led down")]
    {
        assert_unsafe(Archive::new().symlink("a/link", target), saying);
    }
    contents(&Archive::new().file("f", b"").symlink("a/link", "../f").gzip());

    let through = Archive::new().directory("d/").symlink("link", "d").file("link/f", b"");
    assert_unsafe(through, "passes through a symbolic link");
    assert_unsafe(Archive::new().file("f", b"").file("f/g", b""), "passes through a file");
    assert_unsafe(Archive::new().file("d/f", b"").symlink("d", "elsewhere"), "same path");
    assert_unsafe(Archive::new().hardlink("b", "a").file("a", b""), "earlier file");
    assert_unsafe(Archive::new().file("d/a", b"").hardlink("b", "d"), "earlier file");
    assert_unsafe(Archive::new().file("a", b"").symlink("l", "a").hardlink("b", "l"), "earlier file");
    assert_unsafe(Archive::new().file("a", b"").hardlink("b", "../a"), "upwards");
    assert_unsafe(Archive::new().file("a", b"").entry(b'1', b"b", b"a", 0o644, b"content"), "may have content");
}

#[test]
fn kinds_that_are_no_files_are_refused() {
    for (flag, saying) in [(b'3', "devices"), (b'4', "devices"), (b'6', "pipes"), (b'S', "sparse"), (b'V', "this kind")]
    {
        assert_unsafe(Archive::new().entry(flag, b"odd", b"", 0o644, b""), saying);
    }
}

#[test]
fn special_mode_bits_are_refused_on_files_and_ignored_on_folders() {
    for mode in [0o4755, 0o2755, 0o1755] {
        assert_unsafe(Archive::new().entry(b'0', b"f", b"", mode, b""), "set-user-id");
    }
    let folder = Archive::new().entry(b'5', b"d/", b"", 0o2755, b"").file("d/f", b"").gzip();
    assert_eq!(contents(&folder).warnings.len(), 1);
}

#[test]
fn a_path_comes_once_and_look_alikes_are_told() {
    assert_unsafe(Archive::new().file("a/b", b"1").file("./a//b", b"2"), "same path");
    let look_alikes =
        Archive::new().file("Read", b"").file("read", b"").file("caf\u{e9}", b"").file("cafe\u{301}", b"");
    assert_eq!(contents(&look_alikes.gzip()).warnings.len(), 2);
}

#[test]
fn what_expands_too_far_is_refused() {
    let small = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        limits
    };
    let two = Archive::new().file("a", &[7; 2_000]).file("b", b"").gzip();
    for limits in [
        small(|limits| limits.entries_max = 1),
        small(|limits| limits.file_bytes_max = 1_999),
        small(|limits| limits.expanded_bytes_max = 4_000),
        small(|limits| (limits.ratio_free_bytes, limits.ratio_max) = (1_000, 5)),
    ] {
        assert_eq!(refusal(&two, limits).0, reason::BUNDLE_EXPANDS_TOO_LARGE);
    }
    // The published ratio, with a file that deflates a thousandfold.
    let bomb = Archive::new().file("zeros", &vec![0; 70 << 20]).gzip();
    let (reason, message) = refusal(&bomb, Limits::default());
    assert_eq!(reason, reason::BUNDLE_EXPANDS_TOO_LARGE);
    assert!(message.contains("ratio"), "{message}");
}

#[test]
fn too_many_folders_on_the_way_are_refused() {
    let limits = Limits { entries_max: 10, ..Limits::default() };
    let path = (0..30).map(|part| part.to_string()).collect::<Vec<_>>().join("/");
    let (reason, message) = refusal(&Archive::new().file(&path, b"").gzip(), limits);
    assert_eq!(reason, reason::BUNDLE_EXPANDS_TOO_LARGE, "{message}");
}

#[test]
fn unpacking_writes_what_was_checked_with_safe_modes() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    let place = tempfile::tempdir().unwrap();
    let into = place.path().join("deployments/echo");
    let bundle = Archive::new()
        .entry(b'0', b"bin/run", b"", 0o777, b"#!/bin/sh\n")
        .entry(b'0', b"notes", b"", 0o666, b"text")
        .symlink("bin/notes", "../notes")
        .hardlink("again", "notes")
        .gzip();
    let unpacked = unpack(&bundle[..], &into).unwrap();
    assert_eq!(unpacked.contents, contents(&bundle));
    let mode = |path: &str| fs::symlink_metadata(into.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("bin"), mode("bin/run"), mode("notes")), (0o755, 0o755, 0o644));
    assert_eq!(fs::read(into.join("bin/notes")).unwrap(), b"text");
    assert_eq!(fs::metadata(into.join("again")).unwrap().nlink(), 2);

    // Never into a folder that is there already, and nothing is left of a bundle that turns out bad.
    assert!(unpack(&bundle[..], &into).is_err());
    assert!(into.exists());
    let bad = Archive::new().file("good", b"1").file("../bad", b"2").gzip();
    let elsewhere = place.path().join("bad");
    assert_eq!(unpack(&bad[..], &elsewhere).unwrap_err().reason(), reason::UNSAFE_ARCHIVE_ENTRY);
    assert!(!elsewhere.exists());
}

#[test]
fn archives_of_gnu_tar_are_read_as_it_reads_them() {
    let place = tempfile::tempdir().unwrap();
    let source = place.path().join("source");
    let deep = source.join("a-folder-with-a-long-name".repeat(6)).join("and-another".repeat(12));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file-name".repeat(15)), vec![9; 3_000]).unwrap();
    fs::write(source.join("ünïcode"), b"1").unwrap();
    fs::hard_link(source.join("ünïcode"), source.join("zz")).unwrap();
    std::os::unix::fs::symlink("target-name".repeat(15), source.join("link")).unwrap();
    for format in ["gnu", "oldgnu", "pax", "ustar"] {
        // ustar has no room for such names; it still has to be read with those that it has room for.
        let what = if format == "ustar" { ["./ünïcode", "./zz"].as_slice() } else { &["."] };
        let bundle = place.path().join(format!("{format}.tar.gz"));
        assert_eq!(tar(&["--format", format, "-czf", text(&bundle), "-C", text(&source)], what), "");
        let into = place.path().join(format);
        let unpacked = unpack(fs::File::open(&bundle).unwrap(), &into).unwrap();
        assert_eq!(unpacked.contents.files, if format == "ustar" { 1 } else { 2 }, "{format}");
        let compared = tar(&["--compare", "-zf", text(&bundle), "-C", text(&into)], &[]);
        // Times are not kept; everything else is.
        assert!(compared.lines().all(|line| line.ends_with("Mod time differs")), "{compared}");
    }
}

#[test]
fn kinds_come_out_as_they_went_in() {
    let bundle = Archive::new().file("d/f", b"").symlink("l", "d/f").hardlink("h", "d/f").gzip();
    let mut entries = Entries::new(&bundle[..], Limits::default());
    let kinds: Vec<Kind> = std::iter::from_fn(|| entries.next().unwrap()).map(|entry| entry.kind).collect();
    let target = "d/f".to_owned();
    assert_eq!(kinds, [Kind::File, Kind::SymbolicLink { target: target.clone() }, Kind::HardLink { target }]);
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What tar says.
fn tar(arguments: &[&str], what: &[&str]) -> String {
    let ended =
        Command::new("tar").env("LC_ALL", "C").args(arguments).args(what).output().expect("GNU tar is installed");
    String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap()
}
