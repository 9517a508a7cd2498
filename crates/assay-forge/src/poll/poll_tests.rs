//! Tests of the state machine alone.
