//! Compiles `proto/` into messages, service traits and the raw schema.

fn main() -> Result<(), portico_codegen::Error> {
    let compilation = portico_codegen::Compilation::tree("../../proto")?;
    compilation.rerun_if_changed();
    compilation.write()
}
