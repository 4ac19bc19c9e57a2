//! If `std` were anywhere in the tree, its panic handler and allocator would collide with these.
#![no_std]

extern crate alloc;

use core::alloc::{GlobalAlloc, Layout};

use receptor_core::config::Config;
use receptor_core::node::Node;
use receptor_core::time::Now;

struct NoMemory;

// SAFETY: never hands out memory, so there is nothing to get wrong; this program is linked, not run.
unsafe impl GlobalAlloc for NoMemory {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ALLOCATOR: NoMemory = NoMemory;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// Keeps the whole node reachable for the linker.
#[unsafe(no_mangle)]
pub extern "C" fn receptor_no_std_proof() -> bool {
    let Ok(mut node) = Node::new(Config::new("proof".into()), [0; 32], Now::default()) else {
        return false;
    };
    node.poll_output().is_some()
}
