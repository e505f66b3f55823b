//! Objects in a folder and in memory: there whole, and made once.

use std::thread;

use super::*;

fn places() -> Vec<(Vec<Objects>, Option<tempfile::TempDir>)> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let address = folder.path().join("deep/archive");
    let address = address.to_str().expect("text").to_owned();
    let door = |_| Objects::open(&address, Access::Write).expect("it is made");
    vec![
        (Objects::in_memory(8), None),
        ((0..8).map(door).collect(), Some(folder)),
    ]
}

#[test]
fn of_many_that_create_one_object_one_does() {
    for (doors, _folder) in places() {
        let firsts: Vec<bool> = thread::scope(|scope| {
            let made = doors.iter().enumerate().map(|(number, door)| {
                let bytes = Bytes::from(vec![number as u8; 100_000]);
                scope.spawn(move || door.create("chain/a.extent", bytes).expect("it answers"))
            });
            let made: Vec<_> = made.collect();
            made.into_iter()
                .map(|made| made.join().expect("no panic"))
                .collect()
        });
        assert_eq!(firsts.iter().filter(|first| **first).count(), 1);
        let winner = firsts.iter().position(|first| *first).expect("one");
        let held = doors[0]
            .get("chain/a.extent", 1 << 20)
            .expect("it is there");
        assert_eq!(held, vec![winner as u8; 100_000]);
    }
}

#[test]
fn objects_are_listed_by_name_and_read_up_to_a_bound() {
    for (doors, _folder) in places() {
        let door = &doors[0];
        assert_eq!(door.list("chain").expect("nothing"), []);
        for name in ["chain/b", "chain/a", "other/c"] {
            assert!(
                door.create(name, Bytes::from_static(b"12345"))
                    .expect("made")
            );
        }
        let of_chain = |name: &str| Listed {
            name: name.into(),
            bytes: 5,
        };
        let listed = door.list("chain").expect("two");
        assert_eq!(listed, [of_chain("chain/a"), of_chain("chain/b")]);
        let long = door.get("chain/a", 4).expect_err("too long");
        assert!(
            matches!(
                long,
                ObjectsError::TooLong {
                    got: 5,
                    most: 4,
                    ..
                }
            ),
            "{long}"
        );
        let none = door.get("chain/c", 4).expect_err("not there");
        assert!(matches!(none, ObjectsError::Missing { .. }), "{none}");
        assert_eq!(door.beginning("chain/a", 3).expect("there"), &b"123"[..]);
        assert_eq!(door.beginning("chain/a", 30).expect("there"), &b"12345"[..]);
        door.replace("chain/a", Bytes::from_static(b"6"))
            .expect("replaced");
        assert_eq!(door.get("chain/a", 4).expect("there"), &b"6"[..]);
    }
}

#[test]
fn what_an_upload_that_died_leaves_in_a_folder_is_not_listed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let address = format!("file://{}", folder.path().display());
    let door = Objects::open(&address, Access::Read).expect("it is there");
    std::fs::create_dir(folder.path().join("chain")).expect("made");
    std::fs::write(folder.path().join("chain/a.extent#1"), b"half").expect("written");
    assert_eq!(door.list("chain").expect("nothing"), []);
    assert!(
        door.create("chain/a.extent", Bytes::from_static(b"whole"))
            .expect("made")
    );
    assert_eq!(door.list("chain").expect("one").len(), 1);
}

#[test]
fn an_address_that_is_none_is_refused_and_no_secret_is_told() {
    for (address, what) in [
        ("ftp://somewhere", "are known"),
        ("file://relative", "are known"),
        ("https://user:word@host/archive?sig=secret", "are known"),
    ] {
        let error = Objects::open(address, Access::Read).err().expect(address);
        let told = error.to_string();
        assert!(told.contains(what), "{told}");
        assert!(!told.contains("word") && !told.contains("secret"), "{told}");
    }
    let missing = Objects::open("/nowhere/at/all", Access::Read).err();
    assert!(matches!(missing, Some(ObjectsError::Folder { .. })));
    assert_eq!(without_secrets("s3://bucket/a"), "s3://bucket/a");
    assert_eq!(without_secrets("az://box@account/a"), "az://box@account/a");
}
