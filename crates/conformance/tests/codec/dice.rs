//! Legal protobuf messages from a seed, laid out as unkindly as the format allows.

use prost::encoding::encode_varint;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

/// Messages nest no deeper than this.
const DEPTH_MAX: u32 = 3;

/// A generator of numbers that look random (splitmix64).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    /// Some fields of the message, appended to `out`.
    pub(crate) fn message(&mut self, message: &MessageDescriptor, depth: u32, out: &mut Vec<u8>) {
        match message.full_name() {
            "google.protobuf.Timestamp" | "google.protobuf.Duration" => self.time(out),
            "google.protobuf.FieldMask" => self.mask(out),
            "google.protobuf.Any" => self.any(out),
            _ => self.fields(message, depth, out),
        }
    }

    fn fields(&mut self, message: &MessageDescriptor, depth: u32, out: &mut Vec<u8>) {
        let fields: Vec<_> = message.fields().collect();
        if fields.is_empty() {
            return;
        }
        let count = if depth > DEPTH_MAX { 0 } else { self.below(9) };
        // Sometimes from few fields only, so that they repeat; sometimes in order, as encoders write.
        let variety = if self.below(2) == 0 { fields.len() } else { fields.len().min(3) };
        let first = self.below((fields.len() - variety + 1) as u64) as usize;
        let mut picks: Vec<usize> = (0..count).map(|_| first + self.below(variety as u64) as usize).collect();
        if self.below(2) == 0 {
            picks.sort_by_key(|pick| fields[*pick].number());
        }
        for pick in picks {
            if self.below(8) == 0 {
                self.unknown(out);
            }
            self.field(&fields[pick], depth, out);
        }
    }

    fn field(&mut self, field: &FieldDescriptor, depth: u32, out: &mut Vec<u8>) {
        let kind = field.kind();
        if let Kind::Message(entry) = &kind
            && field.is_map()
        {
            let mut content = Vec::new();
            for part in [entry.map_entry_key_field(), entry.map_entry_value_field()] {
                // Entries may lack a part, or hold it twice.
                let fewest = usize::from(is_value(&part.kind()));
                for _ in 0..[fewest, 1, 1, 1, 1, 2][self.below(6) as usize] {
                    self.value(&part.kind(), Some(part.number()), depth, &mut content);
                }
            }
            delimited(field.number(), &content, out);
        } else if field.is_list() && field.is_packed() && self.below(3) > 0 {
            let mut content = Vec::new();
            for _ in 0..self.below(4) {
                self.value(&kind, None, depth, &mut content);
            }
            delimited(field.number(), &content, out);
        } else {
            self.value(&kind, Some(field.number()), depth, out);
        }
    }

    fn value(&mut self, kind: &Kind, number: Option<u32>, depth: u32, out: &mut Vec<u8>) {
        let mut tag = |wire_type: u64| {
            if let Some(number) = number {
                encode_varint(u64::from(number) << 3 | wire_type, out);
            }
        };
        let bits = self.bits();
        match kind {
            Kind::Double => {
                tag(1);
                let value = f64::from_bits(bits);
                out.extend_from_slice(&if value.is_finite() { value } else { 0.5 }.to_le_bytes());
            }
            Kind::Float => {
                tag(5);
                let value = f32::from_bits(bits as u32);
                out.extend_from_slice(&if value.is_finite() { value } else { 0.5 }.to_le_bytes());
            }
            Kind::Fixed32 | Kind::Sfixed32 => {
                tag(5);
                out.extend_from_slice(&(bits as u32).to_le_bytes());
            }
            Kind::Fixed64 | Kind::Sfixed64 => {
                tag(1);
                out.extend_from_slice(&bits.to_le_bytes());
            }
            Kind::String => {
                let text =
                    ["", "a", "zwölf", "\"q\\\n\u{1}", "a longer text that needs no escape at all, in chunks", "😀"];
                let text = text[self.below(6) as usize];
                delimited(number.unwrap(), text.as_bytes(), out);
            }
            Kind::Bytes => {
                let length = self.below(8) as usize;
                let bytes: Vec<u8> = (0..length).map(|_| self.roll() as u8).collect();
                delimited(number.unwrap(), &bytes, out);
            }
            Kind::Message(message) => {
                let mut content = Vec::new();
                self.message(message, depth + 1, &mut content);
                if content.is_empty() && is_value(kind) {
                    content = vec![0x08, 0];
                }
                delimited(number.unwrap(), &content, out);
            }
            // Its only value; JSON has no other.
            Kind::Enum(null) if null.full_name() == "google.protobuf.NullValue" => {
                tag(0);
                out.push(0);
            }
            _ => {
                tag(0);
                encode_varint(bits, out);
            }
        }
    }

    /// Small numbers, edges, and anything.
    fn bits(&mut self) -> u64 {
        match self.below(5) {
            0 => 0,
            1 => self.below(4),
            2 => self.below(4).wrapping_neg(),
            3 => [i64::MAX as u64, i64::MIN as u64, u64::MAX, i32::MAX as u64, i64::from(i32::MIN) as u64]
                [self.below(5) as usize],
            _ => self.roll(),
        }
    }

    fn time(&mut self, out: &mut Vec<u8>) {
        if self.below(3) > 0 {
            encode_varint(1 << 3, out);
            encode_varint(self.below(253_402_300_800), out);
        }
        if self.below(2) > 0 {
            encode_varint(2 << 3, out);
            encode_varint(self.below(1_000_000_000), out);
        }
    }

    fn mask(&mut self, out: &mut Vec<u8>) {
        for _ in 0..self.below(3) {
            delimited(1, ["a", "foo_bar", "a_b.c_d"][self.below(3) as usize].as_bytes(), out);
        }
    }

    /// One type only, so that parts of two may be mixed; canonical, because prost compares the bytes.
    fn any(&mut self, out: &mut Vec<u8>) {
        delimited(2, &[0x08, 1 + self.below(100) as u8], out);
        delimited(1, b"type.googleapis.com/protobuf_test_messages.proto3.ForeignMessage", out);
    }

    fn unknown(&mut self, out: &mut Vec<u8>) {
        match self.below(3) {
            0 => delimited(505, b"\xff", out),
            1 => {
                encode_varint(506 << 3, out);
                encode_varint(self.roll(), out);
            }
            _ => {
                encode_varint(507 << 3 | 3, out);
                delimited(1, b"x", out);
                encode_varint(507 << 3 | 4, out);
            }
        }
    }
}

/// A google.protobuf.Value must hold something: in JSON an empty one is the same as one that holds null.
fn is_value(kind: &Kind) -> bool {
    kind.as_message().is_some_and(|message| message.full_name() == "google.protobuf.Value")
}

fn delimited(number: u32, content: &[u8], out: &mut Vec<u8>) {
    encode_varint(u64::from(number) << 3 | 2, out);
    encode_varint(content.len() as u64, out);
    out.extend_from_slice(content);
}
