//! The options of `update`: new values of a container's resources.

use std::path::PathBuf;

use clap::Args;

use super::values;

/// Change the resources of a container.
#[derive(Debug, Args)]
#[command(
    after_help = "A file is JSON in the form of config.json's linux.resources. When it is given, the other options are not \
                        looked at, as with runc. Sizes are bytes, or have a suffix: k, m, g. -1 is no limit.

Examples:
  drupe update --memory 512m web
  drupe update --cpu-quota 50000 --cpu-period 100000 web
  echo '{\"pids\": {\"limit\": 64}}' | drupe update --resources - web"
)]
pub(crate) struct UpdateArgs {
    /// File with the new resources, or - for stdin
    #[arg(long, short, value_name = "FILE")]
    pub(crate) resources: Option<PathBuf>,
    /// Weight of block I/O, 10 to 1000
    #[arg(long, value_name = "N")]
    pub(crate) blkio_weight: Option<u16>,
    /// CPU period in microseconds
    #[arg(long, value_name = "US")]
    pub(crate) cpu_period: Option<u64>,
    /// CPU time in a period in microseconds
    #[arg(long, value_name = "US", allow_negative_numbers = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// CPU time that may be saved up, in microseconds
    #[arg(long, value_name = "US")]
    pub(crate) cpu_burst: Option<u64>,
    /// CPU shares, relative to other containers
    #[arg(long, alias = "cpu-shares", value_name = "N")]
    pub(crate) cpu_share: Option<u64>,
    /// Period of real-time scheduling in microseconds
    #[arg(long, value_name = "US")]
    pub(crate) cpu_rt_period: Option<u64>,
    /// CPU time of real-time scheduling in a period, in microseconds
    #[arg(long, value_name = "US", allow_negative_numbers = true)]
    pub(crate) cpu_rt_runtime: Option<i64>,
    /// 1: run only when nothing else wants to; 0: as others
    #[arg(long, value_name = "0|1")]
    pub(crate) cpu_idle: Option<i64>,
    /// CPUs to use, as 0-2,4
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes to use, as 0-2,4
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// Memory limit
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = values::size)]
    pub(crate) memory: Option<i64>,
    /// Memory that is left to the container when the host is short of it
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = values::size)]
    pub(crate) memory_reservation: Option<i64>,
    /// Limit of memory and swap together
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = values::size)]
    pub(crate) memory_swap: Option<i64>,
    /// Kernel memory limit: no longer in the kernel, accepted for callers of runc
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = values::size, hide = true)]
    pub(crate) kernel_memory: Option<i64>,
    /// Kernel memory limit of TCP: no longer in the kernel, accepted for callers of runc
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = values::size, hide = true)]
    pub(crate) kernel_memory_tcp: Option<i64>,
    /// Limit of the number of processes
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) pids_limit: Option<i64>,
    /// Schema of the L3 cache (Intel RDT)
    #[arg(long, value_name = "SCHEMA")]
    pub(crate) l3_cache_schema: Option<String>,
    /// Schema of the memory bandwidth (Intel RDT)
    #[arg(long, value_name = "SCHEMA")]
    pub(crate) mem_bw_schema: Option<String>,
    /// Name of the container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}
