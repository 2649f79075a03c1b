//! Writes the CUDA source of every kernel, as CubeCL generates it for a device of each compute
//! capability, without a device or a driver: what `tests/gate/cuda.py` compiles and looks at.
//!
//! `cargo run -p cubecl-kernels --features cuda-sources --example cuda_sources -- FOLDER [PART]`. Each
//! target has a folder `FOLDER/sm_90a` of sources, and `FOLDER/kernels.json` lists them: target, path
//! of products, matrix unit, file, function, bytes of shared memory, units of a cube, and the
//! operations that launched it. With PART only operations whose name contains it are launched.

mod architecture;
mod launches;
mod model;
mod paper;

use cubecl_kernels::device::matrix_unit;
use cubecl_kernels::gemm::product_path;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(folder) = std::env::args().nth(1) else {
        eprintln!("cuda_sources: name the folder to write to");
        return ExitCode::from(2);
    };
    let part = std::env::args().nth(2);
    match write(Path::new(&folder), part.as_deref()) {
        Ok(errors) if errors.is_empty() => ExitCode::SUCCESS,
        Ok(errors) => {
            eprintln!("cuda_sources: {}", errors.join("\ncuda_sources: "));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("cuda_sources: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes all sources and the list; gives what no source could be made of.
fn write(folder: &Path, part: Option<&str>) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let mut list = String::from("[");
    for version in architecture::ALL {
        let target = architecture::target(version);
        let client = paper::client(version);
        "trial of the paths".clone_into(&mut paper::launched().operation);
        let path = match part {
            None => format!("{:?}", product_path(&client)),
            Some(_) => "not tried".to_owned(),
        };
        let matrix = format!("{:?}", matrix_unit(&client));
        launches::all(&client, part, version == architecture::EVERY_CAST)?;
        std::fs::create_dir_all(folder.join(&target))?;
        for (number, source) in paper::launched().take(version).iter().enumerate() {
            let file = format!("{target}/{}-{number}.cu", source.entry);
            std::fs::write(folder.join(&file), &source.code)?;
            let operations: Vec<String> =
                source.operations.iter().map(|name| format!("{name:?}")).collect();
            let comma = if list.len() > 1 { "," } else { "" };
            write!(
                list,
                "{comma}\n{{\"target\": {target:?}, \"path\": {path:?}, \"matrix\": {matrix:?}, \"file\": {file:?}, \
                 \"function\": {:?}, \"shared_bytes\": {}, \"units\": {}, \"operations\": [{}]}}",
                source.entry,
                source.shared_bytes,
                source.units,
                operations.join(", "),
            )?;
        }
    }
    std::fs::write(folder.join("kernels.json"), list + "\n]\n")?;
    Ok(std::mem::take(&mut paper::launched().errors))
}
