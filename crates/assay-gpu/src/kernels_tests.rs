//! The PTX is run here instruction by instruction, without a GPU, and must do what the Rust functions do.
//!
//! The interpreter knows the few instructions that the kernels use and refuses every other, so a kernel that is
//! changed beyond them fails here instead of going untested.

use std::collections::HashMap;

use super::*;

const THREADS: (u32, u32) = (3, 8);
/// Where the device memory of the interpreter begins.
const MEMORY: u64 = 0x7000_0000;
const REPORT: u64 = MEMORY + 0x8000;

/// A device with a little memory.
struct Machine {
    memory: Vec<u8>,
    lines: Vec<String>,
    labels: HashMap<String, usize>,
}

impl Machine {
    fn new(kernel: &str) -> Self {
        let text = ptx();
        let start = text.find(&format!(".visible .entry {kernel}(")).expect("the kernel is there");
        let body = &text[start..];
        let body = &body[body.find('{').expect("begins") + 1..body.find("\n}").expect("ends")];
        let (mut lines, mut labels) = (Vec::new(), HashMap::new());
        for line in body.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(".reg")) {
            match line.strip_suffix(':') {
                Some(label) => {
                    labels.insert(label.to_owned(), lines.len());
                }
                None => lines.push(line.trim_end_matches(';').to_owned()),
            }
        }
        let mut machine = Self { memory: vec![0; 0x9000], lines, labels };
        machine.clear_report();
        machine
    }

    fn clear_report(&mut self) {
        for (slot, value) in [0, u64::MAX, 0, 0].into_iter().enumerate() {
            self.store(REPORT + slot as u64 * 8, value, 8);
        }
    }

    fn report(&self) -> [u64; 4] {
        std::array::from_fn(|slot| self.load(REPORT + slot as u64 * 8, 8))
    }

    fn load(&self, address: u64, bytes: usize) -> u64 {
        let at = usize::try_from(address - MEMORY).expect("in range");
        self.memory[at..at + bytes].iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
    }

    fn store(&mut self, address: u64, value: u64, bytes: usize) {
        let at = usize::try_from(address - MEMORY).expect("in range");
        self.memory[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
    }

    fn launch(&mut self, parameters: [u64; 6]) {
        for block in 0..THREADS.0 {
            for thread in 0..THREADS.1 {
                self.run((block, thread), parameters);
            }
        }
    }

    /// One thread from beginning to end.
    fn run(&mut self, (block, thread): (u32, u32), parameters: [u64; 6]) {
        let mut registers: HashMap<String, u64> = [
            ("%ctaid.x", u64::from(block)),
            ("%tid.x", u64::from(thread)),
            ("%nctaid.x", u64::from(THREADS.0)),
            ("%ntid.x", u64::from(THREADS.1)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let (mut at, mut steps) = (0, 0_u32);
        loop {
            steps += 1;
            assert!(steps < 1_000_000, "the kernel does not end");
            let line = self.lines[at].clone();
            at += 1;
            let mut rest = line.as_str();
            if let Some(guarded) = rest.strip_prefix('@') {
                let (predicate, instruction) = guarded.split_once(' ').expect("guarded");
                if registers[predicate] == 0 {
                    continue;
                }
                rest = instruction;
            }
            let (operation, operands) = rest.split_once(' ').unwrap_or((rest, ""));
            let operands: Vec<&str> = operands.split(',').map(str::trim).collect();
            match operation {
                "ret" => return,
                "bra" => at = self.labels[operands[0]],
                "ld.param.u64" => {
                    let number: usize = operands[1].trim_matches(['[', 'p', ']']).parse().expect("a number");
                    registers.insert(operands[0].to_owned(), parameters[number]);
                }
                _ => self.step(operation, &operands, &mut registers),
            }
        }
    }

    fn step(&mut self, operation: &str, operands: &[&str], registers: &mut HashMap<String, u64>) {
        let value = |index: usize| operand(operands[index], registers);
        let wide = |index: usize| value(index);
        let narrow = |index: usize| u32::try_from(value(index) & 0xFFFF_FFFF).expect("32 bits");
        let float = |index: usize| f32::from_bits(narrow(index));
        let address = |index: usize| {
            let inner = operands[index].trim_matches(['[', ']']);
            let (base, offset) = inner.split_once('+').unwrap_or((inner, "0"));
            registers[base] + offset.parse::<u64>().expect("an offset")
        };
        let result = match operation {
            "mov.u32" | "mov.b32" | "cvt.u32.u64" | "cvt.u64.u32" => u64::from(narrow(1)),
            "mov.u64" => wide(1),
            "add.u64" => wide(1).wrapping_add(wide(2)),
            "mul.lo.u64" => wide(1).wrapping_mul(wide(2)),
            "shr.u64" => wide(1) >> wide(2),
            "shl.b64" => wide(1) << wide(2),
            "xor.b64" => wide(1) ^ wide(2),
            "and.b64" => wide(1) & wide(2),
            "mul.wide.u32" => u64::from(narrow(1)) * u64::from(narrow(2)),
            "sub.u32" => narrow(1).wrapping_sub(narrow(2)).into(),
            "mul.lo.u32" => narrow(1).wrapping_mul(narrow(2)).into(),
            "mad.lo.u32" => narrow(1).wrapping_mul(narrow(2)).wrapping_add(narrow(3)).into(),
            "shr.u32" => (narrow(1) >> narrow(2)).into(),
            "xor.b32" => (narrow(1) ^ narrow(2)).into(),
            "or.b32" => (narrow(1) | narrow(2)).into(),
            "add.rn.f32" => (float(1) + float(2)).to_bits().into(),
            "neg.f32" => (-float(1)).to_bits().into(),
            "fma.rn.f32" => float(1).mul_add(float(2), float(3)).to_bits().into(),
            "setp.eq.u64" => (wide(1) == wide(2)).into(),
            "setp.ge.u64" => (wide(1) >= wide(2)).into(),
            "setp.eq.u32" => (narrow(1) == narrow(2)).into(),
            "setp.ge.u32" => (narrow(1) >= narrow(2)).into(),
            "ld.global.u64" => self.load(address(1), 8),
            "ld.global.u32" => self.load(address(1), 4),
            "st.global.u64" => return self.store(address(0), wide(1), 8),
            "st.global.u32" => return self.store(address(0), wide(1), 4),
            "red.global.add.u64" => {
                let sum = self.load(address(0), 8).wrapping_add(wide(1));
                return self.store(address(0), sum, 8);
            }
            "red.global.min.u64" => {
                return self.store(address(0), self.load(address(0), 8).min(wide(1)), 8);
            }
            "red.global.or.b64" => {
                return self.store(address(0), self.load(address(0), 8) | wide(1), 8);
            }
            other => panic!("the kernels use {other}, which this interpreter does not know"),
        };
        registers.insert(operands[0].to_owned(), result);
    }
}

fn operand(text: &str, registers: &HashMap<String, u64>) -> u64 {
    if text.starts_with('%') {
        return registers[text];
    }
    if let Some(bits) = text.strip_prefix("0f") {
        return u64::from_str_radix(bits, 16).expect("a float");
    }
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).expect("a number"),
        None if text.starts_with("0X") => panic!("PTX knows no 0X"),
        None => text.parse().expect("a number"),
    }
}

#[test]
fn filling_writes_every_word_and_nothing_beyond() {
    // More words than threads, and not a multiple of them.
    let words = 61;
    for flip in [0, u64::MAX] {
        let mut machine = Machine::new("assay_fill");
        machine.launch([MEMORY, words, 1000, 77, flip, REPORT]);
        for index in 0..words {
            assert_eq!(machine.load(MEMORY + index * 8, 8), word(1000 + index, 77, flip), "word {index}");
        }
        assert_eq!(machine.load(MEMORY + words * 8, 8), 0, "the word after the last");
        assert_eq!(machine.report(), [0, u64::MAX, 0, 0], "filling reports nothing");
    }
}

#[test]
fn verifying_counts_what_is_wrong_and_what_was_looked_at() {
    let words = 61;
    let mut machine = Machine::new("assay_verify");
    for index in 0..words {
        machine.store(MEMORY + index * 8, word(1000 + index, 77, 0), 8);
    }
    machine.launch([MEMORY, words, 1000, 77, 0, REPORT]);
    assert_eq!(machine.report(), [0, u64::MAX, 0, words]);

    for (index, bit) in [(60, 1_u64 << 63), (9, 1 << 5)] {
        machine.store(MEMORY + index * 8, word(1000 + index, 77, 0) ^ bit, 8);
    }
    machine.clear_report();
    machine.launch([MEMORY, words, 1000, 77, 0, REPORT]);
    assert_eq!(machine.report(), [2, 1009, 1 << 63 | 1 << 5, words]);
}

#[test]
fn arithmetic_is_the_same_here_and_there() {
    let threads = 22;
    for (kernel, thread) in [
        ("assay_float", float_thread as fn(u32, u32, u32) -> u32),
        ("assay_integer", integer_thread as fn(u32, u32, u32) -> u32),
    ] {
        let mut machine = Machine::new(kernel);
        machine.launch([MEMORY, 5, 0xC0DE, 0, threads, REPORT]);
        for id in 0..threads {
            let expected = thread(id as u32, 5, 0xC0DE);
            assert_eq!(machine.load(MEMORY + id * 4, 4) as u32, expected, "{kernel} thread {id}");
        }
        assert_eq!(machine.load(MEMORY + threads * 4, 4), 0, "{kernel}: threads beyond the last stay out");
        for mode in [1, 3] {
            machine.clear_report();
            machine.launch([MEMORY, 5, 0xC0DE, mode, threads, REPORT]);
            assert_eq!(machine.report(), [0, u64::MAX, 0, threads], "{kernel} mode {mode}");
        }
        machine.store(MEMORY + 7 * 4, u64::from(thread(7, 5, 0xC0DE) ^ 8), 4);
        for mode in [1, 3] {
            machine.clear_report();
            machine.launch([MEMORY, 5, 0xC0DE, mode, threads, REPORT]);
            assert_eq!(machine.report(), [1, 7, 8, threads], "{kernel} mode {mode}");
        }
    }
}

#[test]
fn the_chaotic_map_stays_in_its_range_and_forgets_nothing() {
    // One bit of one step changes the result, however many rounds follow.
    let after = |rounds, nudge: u32| {
        let mut x = 0.4_f32;
        let mut sum = 1_u32;
        for round in 0..rounds {
            x = (-x).mul_add(x, x).mul_add(GROWTH, LIFT);
            assert!((0.0001..0.98).contains(&x), "{x} in round {round}");
            if round == 3 {
                x = f32::from_bits(x.to_bits() ^ nudge);
            }
            sum = sum.wrapping_mul(SUM).wrapping_add(x.to_bits());
        }
        sum
    };
    for rounds in [4, 5, 100, 10_000] {
        assert_ne!(after(rounds, 0), after(rounds, 1), "{rounds} rounds");
    }
}

#[test]
fn no_two_words_of_a_pass_are_alike() {
    let words: std::collections::HashSet<u64> = (0..10_000).map(|index| word(index, 3, 0)).collect();
    assert_eq!(words.len(), 10_000);
    let ones: u32 = words.iter().map(|word| word.count_ones()).sum();
    assert!((300_000..340_000).contains(&ones), "half of the bits are set: {ones}");
}
