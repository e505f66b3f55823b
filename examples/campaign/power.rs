//! Power loss on a real file system: ext4 on a loop device, shut down without a flush of its log.
//!
//! Source: reliability, tools, `EXT4_IOC_SHUTDOWN`. In: how many cycles. Out: counts.
//! Holds: after the cut the file system takes nothing any more; members are killed, their folders
//! are mounted anew and verified before they start. Elsewhere: the simulated disk (`sim`).

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::{Lacking, Plan, report, tool};

/// Bytes of the image; it is sparse.
const IMAGE_BYTES: u64 = 8 << 30;
/// Shuts the file system of its argument down, flag 2: without a flush of the log.
const SHUTDOWN: &str = "import fcntl,os,struct,sys
fcntl.ioctl(os.open(sys.argv[1],os.O_RDONLY),0x8004587d,struct.pack('I',2))";

#[derive(Args)]
pub(crate) struct Words {
    /// How often the power is cut.
    #[arg(long, default_value_t = 20)]
    cycles: usize,
    /// Members whose power is cut, from the first; without it all.
    #[arg(long)]
    hit: Option<usize>,
}

pub(crate) fn run(plan: &Plan, words: &Words) -> Result<Value, Lacking> {
    let hit = words.hit.unwrap_or(plan.members).min(plan.members);
    let folder = tempfile::tempdir().expect("a folder");
    let mut disk = Disk::make(folder.path())?;
    let mut run = plan.start("power", |members, _| {
        for number in 0..hit {
            let data = disk.mounted.join(format!("data-{number}"));
            members.keep_data_in(number, &data);
        }
    });
    let mut torn = Vec::new();
    for cycle in 0..words.cycles {
        run.load.wait_for(plan.enough());
        disk.cut()?;
        for number in 0..hit {
            run.members.strike(number);
        }
        for number in 0..hit {
            run.members.ended(number);
        }
        disk.mount_again()?;
        // What the disks hold verifies before anybody may repair it.
        for number in 0..hit {
            let verified = run.members.verify(number);
            let of_member = |said| format!("cycle {cycle}, member {number}: {said}");
            torn.extend(verified.err().map(of_member));
        }
        (0..hit).for_each(|number| run.members.start(number));
        run.load.wait_for(plan.enough());
        eprintln!("{cycle}: goes on");
    }
    let facts = json!({ "cycles": words.cycles, "members_hit": hit });
    let mut verdict = run.finish();
    verdict.violations.extend(torn);
    Ok(report("power", &verdict, facts))
}

/// An image with a file system of its own, mounted until it is dropped.
struct Disk {
    image: PathBuf,
    mounted: PathBuf,
}

impl Disk {
    fn make(folder: &Path) -> Result<Self, Lacking> {
        let disk = Self {
            image: folder.join("image"),
            mounted: folder.join("mounted"),
        };
        let made = std::fs::File::create(&disk.image);
        made.and_then(|file| file.set_len(IMAGE_BYTES))
            .and_then(|()| std::fs::create_dir(&disk.mounted))
            .map_err(|error| Lacking(error.to_string()))?;
        tool(&["mkfs.ext4", "-q", "-F", &text(&disk.image)])?;
        tool(&["python3", "-c", "import fcntl"])?;
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&self) -> Result<(), Lacking> {
        let (image, mounted) = (text(&self.image), text(&self.mounted));
        tool(&["mount", "-o", "loop", &image, &mounted]).map(drop)
    }

    /// From now on nothing reaches the image, and what was only in memory is gone.
    fn cut(&mut self) -> Result<(), Lacking> {
        tool(&["python3", "-c", SHUTDOWN, &text(&self.mounted)]).map(drop)
    }

    fn mount_again(&mut self) -> Result<(), Lacking> {
        tool(&["umount", &text(&self.mounted)])?;
        self.mount()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(Lacking(what)) = tool(&["umount", &text(&self.mounted)]) {
            eprintln!("still mounted: {what}");
        }
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
