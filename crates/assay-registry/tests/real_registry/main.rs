//! The cache of images with the real programs: an upstream `docker-registry` of the test's own, filled by skopeo, and Docker
//! daemons that pull. Needs root.

mod cache;
mod daemons;
mod ends;
mod world;
