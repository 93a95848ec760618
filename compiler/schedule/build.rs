//! Generates the prost types of `proto/schedule.proto` without a protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto/schedule.proto");
    let files = protox::compile(["proto/schedule.proto"], ["proto"])?;
    prost_build::Config::new()
        // Ordered maps: the same message gives the same bytes.
        .btree_map(["."])
        // Bodies are looked up.
        .message_attribute("Body", "#[derive(Eq, Hash)]")
        .message_attribute("Giant", "#[derive(Eq, Hash)]")
        .compile_fds(files)?;
    Ok(())
}
