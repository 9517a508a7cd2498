//! The evidence of the opt-in stage `Memtest86`.
