//! aarch64: an `Image` with a flattened device tree, PSCI, GICv3 or GICv2.
//!
//! The names that this folder will export are those of [`super`]. Until they exist the crate does not build
//! for this architecture.

compile_error!(
    "drupe does not run on aarch64 yet: vmm/src/arch/aarch64 has to export the names listed in vmm/src/arch/mod.rs"
);
