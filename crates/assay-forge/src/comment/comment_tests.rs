//! Pictures of the comment.
