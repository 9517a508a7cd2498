//! What GPUs calculate: four kernels in the driver's portable assembly (PTX), and the same functions for the processor.
//!
//! The driver translates PTX for the device that is there, so neither compiler nor toolkit is needed. The functions are
//! made so that an error stays: every step is reversible or feeds a running sum, so one wrong bit anywhere changes the
//! result. Floating point stays away from zero, infinity and subnormal numbers and uses only fused multiply-add, which
//! every device and processor rounds alike, so results are compared bit by bit.
//!
//! The two descriptions of each function, as Rust and as PTX, are held together by tests that run the
//! PTX step by step.

use std::fmt::Write as _;

/// Names of the kernels in [`ptx()`].
pub(crate) const NAMES: [&str; 4] = ["assay_fill", "assay_verify", "assay_float", "assay_integer"];

/// Chains of arithmetic that each thread works on at once.
const CHAINS: u32 = 4;
/// Steps of each chain between two looks at it.
const STEPS: u32 = 8;
/// Floating-point operations of one thread in one round: each step is two fused multiply-adds.
pub(crate) const FLOPS_PER_ROUND: u64 = (CHAINS * STEPS * 4) as u64;

const WORD_1: u64 = 0x9E37_79B9_7F4A_7C15;
const WORD_2: u64 = 0xD6E8_FEB8_6659_FD93;
const START_1: u32 = 0x85EB_CA6B;
const START_2: u32 = 0xC2B2_AE35;
const SUM: u32 = 0x0100_0193;
const STEP: u32 = 1_664_525;
const SHIFT: u32 = 1_013_904_223;
/// 3.9 and 0.0001: the map x → 3.9·(x − x²) + 0.0001 is chaotic and stays within [0.09, 0.98].
const GROWTH: f32 = 3.9;
const LIFT: f32 = 0.0001;

/// The 64-bit word at `index` of a device's memory in the pass `seed`; `flip` is 0 or all ones. No two words of a pass
/// are alike, so that data at a wrong address is found as well.
pub const fn word(index: u64, seed: u64, flip: u64) -> u64 {
    let mut x = index.wrapping_add(seed).wrapping_mul(WORD_1);
    x ^= x >> 32;
    x = x.wrapping_mul(WORD_2);
    x ^= x >> 29;
    x ^ flip
}

/// What the thread `id` of the floating-point kernel brings after `rounds`.
pub fn float_thread(id: u32, rounds: u32, seed: u32) -> u32 {
    let mut x: [f32; 4] = std::array::from_fn(|chain| {
        let fraction = f32::from_bits((start(id, chain as u32, seed) >> 9) | 0x3F80_0000) - 1.0;
        fraction.mul_add(0.5, 0.25)
    });
    let mut sums = [1_u32, 2, 3, 4];
    for _ in 0..rounds {
        for (x, sum) in x.iter_mut().zip(&mut sums) {
            for _ in 0..STEPS {
                let falling = (-*x).mul_add(*x, *x);
                *x = falling.mul_add(GROWTH, LIFT);
            }
            *sum = sum.wrapping_mul(SUM).wrapping_add(x.to_bits());
        }
    }
    fold(sums)
}

/// What the thread `id` of the integer kernel brings after `rounds`.
pub fn integer_thread(id: u32, rounds: u32, seed: u32) -> u32 {
    let mut x: [u32; 4] = std::array::from_fn(|chain| start(id, chain as u32, seed));
    let mut sums = [1_u32, 2, 3, 4];
    for _ in 0..rounds {
        for (x, sum) in x.iter_mut().zip(&mut sums) {
            for _ in 0..STEPS {
                *x ^= *x >> 15;
                *x = x.wrapping_mul(STEP).wrapping_add(SHIFT);
            }
            *sum = sum.wrapping_mul(SUM).wrapping_add(*x);
        }
    }
    fold(sums)
}

const fn start(id: u32, chain: u32, seed: u32) -> u32 {
    let mut x = id.wrapping_mul(CHAINS).wrapping_add(chain) ^ seed;
    x = x.wrapping_mul(START_1);
    x ^= x >> 15;
    x.wrapping_mul(START_2)
}

const fn fold(sums: [u32; 4]) -> u32 {
    let [a, b, c, d] = sums;
    let ab = a.wrapping_mul(SUM).wrapping_add(b);
    let abc = ab.wrapping_mul(SUM).wrapping_add(c);
    abc.wrapping_mul(SUM).wrapping_add(d)
}

/// The kernels as text. `sm_50` is what every driver since 2014 can translate for its devices.
///
/// Each takes six 64-bit parameters. `assay_fill` and `assay_verify`: address, words, index of the first word, seed,
/// flip, report. `assay_float` and `assay_integer`: address of the results, rounds, seed, mode (1: compare instead of
/// store; 2: threads in opposite order, so that another multiprocessor does the work), threads, report. A report is
/// four words: mismatches, index of the first, their bits, how much was looked at.
pub fn ptx() -> String {
    let mut text = String::from(".version 6.0\n.target sm_50\n.address_size 64\n");
    text.push_str(&memory_kernel("assay_fill", "    st.global.u64 [%rd12], %rd10;\n"));
    let compare = "    ld.global.u64 %rd13, [%rd12];
    add.u64 %rd9, %rd9, 1;
    xor.b64 %rd13, %rd13, %rd10;
    setp.eq.u64 %p1, %rd13, 0;
    @%p1 bra NEXT;
    red.global.add.u64 [%rd5], 1;
    add.u64 %rd14, %rd6, %rd2;
    red.global.min.u64 [%rd5+8], %rd14;
    red.global.or.b64 [%rd5+16], %rd13;
";
    text.push_str(&memory_kernel("assay_verify", compare));
    text.push_str(&arithmetic_kernel("assay_float", &float_start(), &float_round()));
    text.push_str(&arithmetic_kernel("assay_integer", "", &integer_round()));
    text
}

fn header(name: &str) -> String {
    let parameters: Vec<String> = (0..6).map(|number| format!(".param .u64 p{number}")).collect();
    let mut text = format!(
        "\n.visible .entry {name}({})\n{{\n    .reg .pred %p<4>;\n    .reg .b32 %r<32>;\n    .reg .f32 %f<8>;\n    .reg .b64 %rd<16>;\n",
        parameters.join(", ")
    );
    for number in 0..6 {
        let _ = writeln!(text, "    ld.param.u64 %rd{number}, [p{number}];");
    }
    text.push_str("    mov.u32 %r0, %ctaid.x;\n    mov.u32 %r1, %ntid.x;\n    mov.u32 %r2, %tid.x;\n");
    text
}

/// Each thread takes every nth word; `%rd10` is the word that belongs there, `%rd12` its address, `%rd6` its place.
fn memory_kernel(name: &str, with_word: &str) -> String {
    format!(
        "{}    mov.u32 %r3, %nctaid.x;
    mul.wide.u32 %rd6, %r0, %r1;
    cvt.u64.u32 %rd7, %r2;
    add.u64 %rd6, %rd6, %rd7;
    mul.wide.u32 %rd8, %r3, %r1;
    mov.u64 %rd9, 0;
LOOP:
    setp.ge.u64 %p0, %rd6, %rd1;
    @%p0 bra DONE;
    add.u64 %rd10, %rd6, %rd2;
    add.u64 %rd10, %rd10, %rd3;
    mul.lo.u64 %rd10, %rd10, {WORD_1:#x};
    shr.u64 %rd11, %rd10, 32;
    xor.b64 %rd10, %rd10, %rd11;
    mul.lo.u64 %rd10, %rd10, {WORD_2:#x};
    shr.u64 %rd11, %rd10, 29;
    xor.b64 %rd10, %rd10, %rd11;
    xor.b64 %rd10, %rd10, %rd4;
    shl.b64 %rd12, %rd6, 3;
    add.u64 %rd12, %rd12, %rd0;
{with_word}NEXT:
    add.u64 %rd6, %rd6, %rd8;
    bra LOOP;
DONE:
    setp.eq.u64 %p2, %rd9, 0;
    @%p2 bra END;
    red.global.add.u64 [%rd5+24], %rd9;
END:
    ret;
}}
",
        header(name)
    )
}

/// `%r10`…`%r13` are the chains as integers, `%r20`…`%r23` their sums.
fn arithmetic_kernel(name: &str, begin: &str, round: &str) -> String {
    let mut starts = String::new();
    for chain in 0..CHAINS {
        let register = 10 + chain;
        let _ = write!(
            starts,
            "    mad.lo.u32 %r{register}, %r3, {CHAINS}, {chain};
    xor.b32 %r{register}, %r{register}, %r6;
    mul.lo.u32 %r{register}, %r{register}, {START_1:#x};
    shr.u32 %r5, %r{register}, 15;
    xor.b32 %r{register}, %r{register}, %r5;
    mul.lo.u32 %r{register}, %r{register}, {START_2:#x};
    mov.u32 %r{}, {};
",
            20 + chain,
            chain + 1
        );
    }
    format!(
        "{}    mad.lo.u32 %r3, %r0, %r1, %r2;
    cvt.u32.u64 %r4, %rd4;
    setp.ge.u32 %p0, %r3, %r4;
    @%p0 bra DONE;
    and.b64 %rd6, %rd3, 2;
    setp.eq.u64 %p1, %rd6, 0;
    @%p1 bra FORWARD;
    sub.u32 %r5, %r4, 1;
    sub.u32 %r3, %r5, %r3;
FORWARD:
    cvt.u32.u64 %r6, %rd2;
    cvt.u32.u64 %r7, %rd1;
{starts}{begin}LOOP:
    setp.eq.u32 %p2, %r7, 0;
    @%p2 bra FOLD;
{round}    sub.u32 %r7, %r7, 1;
    bra LOOP;
FOLD:
    mad.lo.u32 %r20, %r20, {SUM:#x}, %r21;
    mad.lo.u32 %r20, %r20, {SUM:#x}, %r22;
    mad.lo.u32 %r20, %r20, {SUM:#x}, %r23;
    cvt.u64.u32 %rd7, %r3;
    shl.b64 %rd8, %rd7, 2;
    add.u64 %rd8, %rd8, %rd0;
    and.b64 %rd6, %rd3, 1;
    setp.eq.u64 %p1, %rd6, 0;
    @%p1 bra STORE;
    red.global.add.u64 [%rd5+24], 1;
    ld.global.u32 %r21, [%rd8];
    xor.b32 %r21, %r21, %r20;
    setp.eq.u32 %p3, %r21, 0;
    @%p3 bra DONE;
    red.global.add.u64 [%rd5], 1;
    red.global.min.u64 [%rd5+8], %rd7;
    cvt.u64.u32 %rd9, %r21;
    red.global.or.b64 [%rd5+16], %rd9;
    bra DONE;
STORE:
    st.global.u32 [%rd8], %r20;
DONE:
    ret;
}}
",
        header(name)
    )
}

fn float_start() -> String {
    let mut text = String::new();
    for chain in 0..CHAINS {
        let _ = write!(
            text,
            "    shr.u32 %r5, %r{register}, 9;
    or.b32 %r5, %r5, 0x3F800000;
    mov.b32 %f{chain}, %r5;
    add.rn.f32 %f{chain}, %f{chain}, {};
    fma.rn.f32 %f{chain}, %f{chain}, {}, {};
",
            literal(-1.0),
            literal(0.5),
            literal(0.25),
            register = 10 + chain
        );
    }
    text
}

/// The chains take turns, so that no step waits for the one before it.
fn float_round() -> String {
    let mut text = String::new();
    for _ in 0..STEPS {
        for chain in 0..CHAINS {
            let _ = write!(
                text,
                "    neg.f32 %f{falling}, %f{chain};
    fma.rn.f32 %f{falling}, %f{falling}, %f{chain}, %f{chain};
",
                falling = chain + CHAINS
            );
        }
        for chain in 0..CHAINS {
            let _ = writeln!(
                text,
                "    fma.rn.f32 %f{chain}, %f{}, {}, {};",
                chain + CHAINS,
                literal(GROWTH),
                literal(LIFT)
            );
        }
    }
    for chain in 0..CHAINS {
        let sum = 20 + chain;
        let _ =
            write!(text, "    mov.b32 %r5, %f{chain};\n    mad.lo.u32 %r{sum}, %r{sum}, {SUM:#x}, %r5;\n");
    }
    text
}

fn integer_round() -> String {
    let mut text = String::new();
    for _ in 0..STEPS {
        for chain in 0..CHAINS {
            let (register, spare) = (10 + chain, 14 + chain);
            let _ = write!(
                text,
                "    shr.u32 %r{spare}, %r{register}, 15;
    xor.b32 %r{register}, %r{register}, %r{spare};
    mad.lo.u32 %r{register}, %r{register}, {STEP}, {SHIFT};
"
            );
        }
    }
    for chain in 0..CHAINS {
        let (register, sum) = (10 + chain, 20 + chain);
        let _ = writeln!(text, "    mad.lo.u32 %r{sum}, %r{sum}, {SUM:#x}, %r{register};");
    }
    text
}

/// A 32-bit float, exactly.
fn literal(value: f32) -> String {
    format!("0f{:08X}", value.to_bits())
}

#[cfg(test)]
#[path = "kernels_tests.rs"]
mod tests;
