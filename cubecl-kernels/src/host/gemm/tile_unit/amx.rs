//! The tiles of this processor: their configuration, and the product of one block.

use std::arch::asm;
use std::marker::PhantomData;
use std::ptr;

use super::{BLOCK, Block, Promotion, Segment, Tiles, permission, signal_stack};

/// What `ldtilecfg` reads: palette 1, and for each of eight tiles the bytes of a row and the rows.
#[repr(C, align(64))]
struct Config([u8; 64]);

static CONFIG: Config = {
    let mut config = [0; 64];
    config[0] = 1;
    let mut tile = 0;
    while tile < 8 {
        (config[16 + 2 * tile], config[48 + tile]) = (64, 16);
        tile += 1;
    }
    Config(config)
};

/// The tiles of this thread, configured while this lives.
pub(in super::super) struct Amx(PhantomData<*mut ()>);

impl Drop for Amx {
    fn drop(&mut self) {
        // Else the kernel saves 8 KiB at each change of threads and for each signal.
        // SAFETY: there are tiles, or there would be no `Amx`.
        unsafe { asm!("tilerelease", options(nostack, preserves_flags, nomem)) };
    }
}

/// A row of a promotion: where its scale and its sums lie.
macro_rules! row {
    ($scale:literal, $sums:literal) => {
        concat!(
            "vbroadcastss zmm0, dword ptr [{scales} + ",
            $scale,
            "]; vmulps zmm1, zmm0, zmm30; vmulps zmm0, zmm0, zmm31;",
            "vmovups zmm2, [{from}]; vmovups zmm3, [{from} + 64];",
            "vfmadd231ps zmm2, zmm1, [{before} + ",
            $sums,
            "]; vfmadd231ps zmm3, zmm0, [{before} + ",
            $sums,
            " + 64];",
            "vmovups [{to}], zmm2; vmovups [{to} + 64], zmm3; add {from}, {from_pitch}; add {to}, \
             {to_pitch}"
        )
    };
}

/// Goes over to the next segment; zero is set where there is none.
macro_rules! segment {
    () => {
        "mov {left}, [{next}]; mov {right}, [{next} + 8]; mov {steps}, [{next} + 16]; \
         add {next}, 24; test {steps}, {steps}"
    };
}

impl Tiles for Amx {
    fn new() -> Self {
        assert!(permission().is_ok(), "invariant: this path is taken only where there are tiles");
        signal_stack::enlarge();
        // SAFETY: there are tiles, and the configuration is one of theirs.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG,
                options(nostack, preserves_flags, readonly))
        };
        Self(PhantomData)
    }

    // A function of its own: it needs all registers, and so the loops around it none of them.
    #[inline(never)]
    unsafe fn run(&self, block: Option<&Block>, promotion: Option<&Promotion>) {
        let none = Block {
            left: ptr::null(),
            right: ptr::null(),
            steps: 0,
            next: Segment::NONE,
            sums: ptr::null_mut(),
        };
        let (x, y) = (block.unwrap_or(&none), promotion.unwrap_or(&Promotion::NONE));
        // One piece from the first tile to the last, since to the compiler tiles are but clobbers.
        // Vectors were measured to work beside tiles only where the instructions of both alternate.
        // All general registers but two are in use.
        // SAFETY: the caller vouches for the addresses, `new` for the configuration.
        unsafe {
            asm!(
                "vmovups zmm30, [{columns}]; vmovups zmm31, [{columns} + 64]",
                "test {steps}, {steps}; jz 5f",
                "tilezero tmm0; tilezero tmm1; tilezero tmm2; tilezero tmm3",
                "test {parts}, {parts}; jz 4f",
                "3:", // 32 of the depth, beside eight rows to promote
                "tileloadd tmm4, [{left} + {c64}]; tileloadd tmm6, [{right} + {c64}*2]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                row!(0, 0),
                row!(4, 128),
                "tileloadd tmm7, [{right} + {c64}*2 + 64]; tdpbf16ps tmm1, tmm4, tmm7",
                row!(8, 256),
                row!(12, 384),
                "tileloadd tmm5, [{left} + {c64} + 1024]; tdpbf16ps tmm2, tmm5, tmm6",
                row!(16, 512),
                row!(20, 640),
                "tdpbf16ps tmm3, tmm5, tmm7",
                row!(24, 768),
                row!(28, 896),
                "add {left}, 2048; add {right}, 2048; add {before}, 1024; add {scales}, 32",
                "dec {steps}; jnz 8f",
                segment!(),
                "jz 2f",
                "8: dec {parts}; jnz 3b",
                "4:", // 32 of the depth alone
                "tileloadd tmm4, [{left} + {c64}]; tileloadd tmm6, [{right} + {c64}*2]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{right} + {c64}*2 + 64]; tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{left} + {c64} + 1024]",
                "tdpbf16ps tmm2, tmm5, tmm6; tdpbf16ps tmm3, tmm5, tmm7",
                "add {left}, 2048; add {right}, 2048; dec {steps}; jnz 4b",
                segment!(),
                "jnz 4b",
                "inc {parts}",
                "2:",
                "tilestored [{sums} + {c64}*2], tmm0; tilestored [{sums} + {c64}*2 + 64], tmm1",
                "tilestored [{sums} + {c64}*2 + 2048], tmm2",
                "tilestored [{sums} + {c64}*2 + 2112], tmm3",
                "dec {parts}",
                "5:",
                "test {parts}, {parts}; jz 7f",
                "6:", // rows that are left
                row!(0, 0),
                row!(4, 128),
                row!(8, 256),
                row!(12, 384),
                row!(16, 512),
                row!(20, 640),
                row!(24, 768),
                row!(28, 896),
                "add {before}, 1024; add {scales}, 32; dec {parts}; jnz 6b",
                "7:",
                left = inout(reg) x.left => _,
                right = inout(reg) x.right => _,
                steps = inout(reg) x.steps => _,
                sums = in(reg) x.sums,
                before = inout(reg) y.sums => _,
                scales = inout(reg) y.row_scales => _,
                columns = in(reg) y.column_scales,
                from = inout(reg) y.from => _,
                from_pitch = in(reg) y.from_pitch,
                to = inout(reg) y.to => _,
                to_pitch = in(reg) y.to_pitch,
                parts = inout(reg) if promotion.is_some() { BLOCK / 8 } else { 0 } => _,
                c64 = in(reg) 64usize,
                next = inout(reg) x.next => _,
                out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _,
                out("zmm30") _, out("zmm31") _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}
