//! What becomes of limits when some of them change.

use super::Resources;

impl Resources {
    /// These limits with every one replaced that `change` gives.
    ///
    /// As for runc, no limit of memory means none of swap, if `change` does not say otherwise.
    pub fn merged(&self, change: &Self) -> Self {
        let mut merged = self.clone();
        merged.merge_memory(change);
        merged.merge_cpu(change);
        replace(&mut merged.pids.limit, change.pids.limit);
        merged.merge_block_io(change);
        for limit in &change.hugepage_limits {
            match merged.hugepage_limits.iter_mut().find(|known| known.page_size == limit.page_size) {
                Some(known) => known.limit = limit.limit,
                None => merged.hugepage_limits.push(limit.clone()),
            }
        }
        replace(&mut merged.network.class_id, change.network.class_id);
        replace_list(&mut merged.network.priorities, &change.network.priorities);
        replace_list(&mut merged.devices, &change.devices);
        merged.rdma.extend(change.rdma.clone());
        merged.unified.extend(change.unified.clone());
        merged
    }

    fn merge_memory(&mut self, change: &Self) {
        let (memory, change) = (&mut self.memory, &change.memory);
        let given = |value: Option<i64>| value.filter(|&value| value != 0);
        replace(&mut memory.limit, given(change.limit));
        replace(&mut memory.reservation, given(change.reservation));
        replace(&mut memory.swap, given(change.swap));
        if change.limit == Some(-1) && given(change.swap).is_none() {
            memory.swap = Some(-1);
        }
        replace(&mut memory.kernel, given(change.kernel));
        replace(&mut memory.kernel_tcp, given(change.kernel_tcp));
        replace(&mut memory.swappiness, change.swappiness);
        replace(&mut memory.disable_oom_killer, change.disable_oom_killer);
        replace(&mut memory.use_hierarchy, change.use_hierarchy);
        // It is about one change, not about the container.
        memory.check_before_update = change.check_before_update;
    }

    fn merge_cpu(&mut self, change: &Self) {
        let (cpu, change) = (&mut self.cpu, &change.cpu);
        let given = |value: Option<u64>| value.filter(|&value| value != 0);
        let text = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        replace(&mut cpu.shares, given(change.shares));
        replace(&mut cpu.quota, change.quota.filter(|&quota| quota != 0));
        replace(&mut cpu.period, given(change.period));
        replace(&mut cpu.burst, change.burst);
        replace(&mut cpu.realtime_runtime, change.realtime_runtime.filter(|&runtime| runtime != 0));
        replace(&mut cpu.realtime_period, given(change.realtime_period));
        replace(&mut cpu.cpus, text(&change.cpus));
        replace(&mut cpu.mems, text(&change.mems));
        replace(&mut cpu.idle, change.idle);
    }

    fn merge_block_io(&mut self, change: &Self) {
        let (io, change) = (&mut self.block_io, &change.block_io);
        let given = |value: Option<u16>| value.filter(|&value| value != 0);
        replace(&mut io.weight, given(change.weight));
        replace(&mut io.leaf_weight, given(change.leaf_weight));
        replace_list(&mut io.weight_device, &change.weight_device);
        replace_list(&mut io.throttle_read_bps_device, &change.throttle_read_bps_device);
        replace_list(&mut io.throttle_write_bps_device, &change.throttle_write_bps_device);
        replace_list(&mut io.throttle_read_iops_device, &change.throttle_read_iops_device);
        replace_list(&mut io.throttle_write_iops_device, &change.throttle_write_iops_device);
    }
}

fn replace<T>(value: &mut Option<T>, change: Option<T>) {
    if change.is_some() {
        *value = change;
    }
}

fn replace_list<T: Clone>(list: &mut Vec<T>, change: &[T]) {
    if !change.is_empty() {
        *list = change.to_vec();
    }
}
