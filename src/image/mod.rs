// SPDX-License-Identifier: GPL-2.0-or-later
//! `ptgt image`: makes, shows, checks, repairs and converts images of tape cartridges that no daemon has open.

mod check;
mod convert;
mod file;
mod foreign;
mod progress;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use check::{Damage, check};
use convert::{export, import};
use file::TapeFile;
pub use foreign::ForeignFormat;
use serde::Serialize;

use crate::control::output::{self, print};
use crate::formats::tape::{
    BARCODE_MAX, BLOCK, Cartridge, CartridgeUse, MODELS, RecordPayload, TapeAttribute, TapeObject, VERSION,
};
use crate::options;
use crate::sys;

/// What to do; see `ptgt image --help`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ImageCommand {
    /// Create a new, empty cartridge.
    #[command(after_help = "Example: ptgt image create ABC001L5.ptt --kind lto5 --barcode ABC001L5")]
    Create {
        /// The image, which must not exist yet. It is sparse.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// What it is.
        #[command(flatten)]
        cartridge: CartridgeArguments,
    },
    /// Show what a cartridge is and how much is on it.
    Show {
        /// The image.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List all records and filemarks.
    List {
        /// The image.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print JSON, an object on each line.
        #[arg(long)]
        json: bool,
    },
    /// Read all of a cartridge and check every checksum. Changes nothing; the exit status is 1 if anything is damaged.
    Verify {
        /// The image.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// End each partition behind its last good record, and rewrite the head and the index. What lay behind it is lost:
    /// copy the image first.
    Repair {
        /// The image.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Create a cartridge from the image of another program.
    #[command(
        after_help = "Example: ptgt image import --format simh old.tap ABC002L5.ptt --barcode ABC002L5"
    )]
    Import {
        /// Format of the other image.
        #[arg(long)]
        format: ForeignFormat,
        /// The other image.
        #[arg(value_name = "FROM")]
        from: PathBuf,
        /// The image, which must not exist yet.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// What it is.
        #[command(flatten)]
        cartridge: CartridgeArguments,
    },
    /// Write a partition as an image of another program.
    #[command(after_help = "Example: ptgt image export --format aws ABC001L5.ptt abc001.aws")]
    Export {
        /// Format of the other image.
        #[arg(long)]
        format: ForeignFormat,
        /// The partition.
        #[arg(long, default_value_t = 0)]
        partition: usize,
        /// The image.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The other image, which must not exist yet.
        #[arg(value_name = "TO")]
        to: PathBuf,
    },
}

/// What a new cartridge is.
#[derive(Clone, Debug, clap::Args)]
pub struct CartridgeArguments {
    /// lto1 to lto9, or lto7m. Without it: a cartridge of no particular density, which needs a size.
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(MODELS.map(|model| model.name)))]
    kind: Option<String>,
    /// Native capacity (1GiB, 800GB, bytes). Default: that of the kind; for an import without a kind, twice the size
    /// of what is imported.
    #[arg(long, value_parser = size)]
    size: Option<u64>,
    /// At most 32 characters of A to Z and 0 to 9 (default: the name of the file up to its first dot).
    #[arg(long)]
    barcode: Option<String>,
    /// A WORM cartridge, which can be written once.
    #[arg(long)]
    worm: bool,
}

fn size(text: &str) -> Result<u64, &'static str> {
    options::size(text).ok_or("not a size such as 800GB or 1TiB")
}

impl CartridgeArguments {
    /// The cartridge; `fallback` is its capacity where nothing tells it.
    fn cartridge(&self, file: &Path, fallback: Option<u64>) -> Result<Cartridge, String> {
        let model = MODELS.iter().find(|model| Some(model.name) == self.kind.as_deref());
        let capacity = self.size.or_else(|| model.map(|model| model.capacity)).or(fallback);
        let capacity = capacity.ok_or("its size is missing: give `--size` or `--kind`")?;
        let stem = || file.file_name()?.to_str()?.split('.').next().map(str::to_owned);
        let barcode = self.barcode.clone().or_else(stem).unwrap_or_default();
        let good = barcode.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        if !good || barcode.is_empty() || barcode.len() > BARCODE_MAX {
            return Err(format!(
                "{barcode:?} is not a barcode: give 1 to {BARCODE_MAX} characters of A to Z and 0 to 9 with \
                 `--barcode`"
            ));
        }
        let mut identity = [0; 8];
        sys::random(&mut identity).map_err(|e| format!("no random number: {e}"))?;
        Ok(Cartridge {
            identity: u64::from_ne_bytes(identity),
            density: model.map_or(0, |model| model.density),
            purpose: if self.worm { CartridgeUse::Worm } else { CartridgeUse::Data },
            write_protected: false,
            capacity,
            barcode,
        })
    }
}

/// Does it. The message of an error is all that there is to say.
pub fn run(command: &ImageCommand) -> Result<(), String> {
    match command {
        ImageCommand::Create { file, cartridge } => {
            let cartridge = cartridge.cartridge(file, None)?;
            TapeFile::create(file, cartridge).map(|_| ())
        }
        ImageCommand::Show { file, json } => {
            let report = report(file)?;
            print(&if *json { output::json(&report, true) } else { report.render() });
            Ok(())
        }
        ImageCommand::List { file, json } => list(file, *json),
        ImageCommand::Verify { file, json } => {
            let mut tape = TapeFile::open(file, false)?;
            let damage = check(&mut tape);
            tell(file, &damage, *json);
            match damage.len() {
                0 => Ok(()),
                1 => Err(format!("{}: 1 fault; `ptgt image repair` keeps what is before it", file.display())),
                n => Err(format!(
                    "{}: {n} faults; `ptgt image repair` keeps what is before them",
                    file.display()
                )),
            }
        }
        ImageCommand::Repair { file, json } => {
            let mut tape = TapeFile::open(file, true)?;
            let damage = check(&mut tape);
            check::repair(&mut tape, &damage)?;
            tell(file, &damage, *json);
            Ok(())
        }
        ImageCommand::Import { format, from, file, cartridge } => import(*format, from, |bytes| {
            let cartridge = cartridge.cartridge(file, Some((2 * bytes).next_multiple_of(BLOCK)))?;
            TapeFile::create(file, cartridge)
        }),
        ImageCommand::Export { format, partition, file, to } => {
            export(*format, &mut TapeFile::open(file, false)?, file, *partition, to)
        }
    }
}

fn tell(file: &Path, damage: &[Damage], json: bool) {
    if json {
        return print(&output::json(&serde_json::json!({ "file": file, "damage": damage }), true));
    }
    if damage.is_empty() {
        print(&format!("{}: good\n", file.display()));
    }
    for Damage { partition, lba, error, .. } in damage {
        match (partition, lba) {
            (Some(partition), Some(lba)) => {
                print(&format!("{}: partition {partition}, block {lba}: {error}\n", file.display()));
            }
            _ => print(&format!("{}: {error}\n", file.display())),
        }
    }
}

#[derive(Debug, Serialize)]
struct PartitionReport {
    capacity: u64,
    used: u64,
    records: u64,
    filemarks: u64,
}

#[derive(Debug, Serialize)]
struct AttributeReport {
    identifier: String,
    partition: Option<u8>,
    format: u8,
    value: String,
}

#[derive(Debug, Serialize)]
struct CartridgeReport {
    file: PathBuf,
    version: u16,
    barcode: String,
    kind: Option<&'static str>,
    density: u8,
    worm: bool,
    cleaning: bool,
    write_protected: bool,
    capacity: u64,
    allocated: u64,
    partitions: Vec<PartitionReport>,
    attributes: Vec<AttributeReport>,
}

fn report(file: &Path) -> Result<CartridgeReport, String> {
    let tape = TapeFile::open(file, false)?;
    let allocated = tape.allocated();
    let image = tape.image;
    let cartridge = image.cartridge();
    let partition = |(number, area): (usize, &crate::formats::tape::PartitionArea)| {
        let end = image.end(number);
        let (used, records) = (image.used(number), end.lba - end.file);
        PartitionReport { capacity: area.capacity, used, records, filemarks: end.file }
    };
    let attribute = |attribute: &TapeAttribute| AttributeReport {
        identifier: format!("{:04x}", attribute.identifier),
        partition: attribute.partition,
        format: attribute.format,
        value: attribute.value.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    Ok(CartridgeReport {
        file: file.into(),
        version: VERSION,
        barcode: cartridge.barcode.clone(),
        kind: MODELS.iter().find(|model| model.density == cartridge.density).map(|model| model.name),
        density: cartridge.density,
        worm: cartridge.purpose == CartridgeUse::Worm,
        cleaning: cartridge.purpose == CartridgeUse::Cleaning,
        write_protected: cartridge.write_protected,
        capacity: cartridge.capacity,
        allocated,
        partitions: image.partitions().iter().enumerate().map(partition).collect(),
        attributes: image.attributes().iter().map(attribute).collect(),
    })
}

impl CartridgeReport {
    fn render(&self) -> String {
        let mut text = format!(
            "{}: {} ({}{}{}), {} bytes, {} on the disk\n",
            self.file.display(),
            self.barcode,
            self.kind.unwrap_or("plain"),
            if self.worm { ", WORM" } else { "" },
            if self.write_protected { ", write-protected" } else { "" },
            self.capacity,
            self.allocated
        );
        for (number, PartitionReport { capacity, used, records, filemarks }) in
            self.partitions.iter().enumerate()
        {
            text += &format!(
                "  partition {number}: {used} of {capacity} bytes used, {records} records, {filemarks} filemarks\n"
            );
        }
        for AttributeReport { identifier, partition, value, .. } in &self.attributes {
            let of = partition.map_or_else(String::new, |partition| format!(" of partition {partition}"));
            text += &format!("  attribute {identifier}{of}: {value}\n");
        }
        text
    }
}

/// What the list says of an object, on a line.
fn line(partition: usize, lba: u64, object: &TapeObject, json: bool) -> String {
    match object {
        TapeObject::Record(record, place) if json => {
            let at = match place {
                RecordPayload::At(range) => Some(range.at),
                RecordPayload::Here(_) => None,
            };
            let line = serde_json::json!({ "partition": partition, "block": lba, "type": "record",
                "length": record.logical, "stored": record.stored, "form": record.form, "at": at });
            output::json(&line, false) + "\n"
        }
        TapeObject::Record(record, _) => format!("{partition} {lba:>12} record   {:>10}\n", record.logical),
        TapeObject::Filemark if json => {
            let line = serde_json::json!({ "partition": partition, "block": lba, "type": "filemark" });
            output::json(&line, false) + "\n"
        }
        TapeObject::Filemark => format!("{partition} {lba:>12} filemark\n"),
    }
}

fn list(file: &Path, json: bool) -> Result<(), String> {
    /// Lines are written in pieces of about that.
    const PIECE: usize = 64 << 10;
    let mut tape = TapeFile::open(file, false)?;
    let mut text = String::new();
    for partition in 0..tape.image.partitions().len() {
        for lba in 0..tape.image.end(partition).lba {
            match tape.find(partition, lba) {
                Ok(object) => text.extend(object.map(|object| line(partition, lba, &object, json))),
                Err(fault) => {
                    print(&text);
                    return Err(tape.unread(partition, lba, &fault));
                }
            }
            if text.len() >= PIECE {
                print(&std::mem::take(&mut text));
            }
        }
    }
    print(&text);
    Ok(())
}
