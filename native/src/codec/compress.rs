//! The compressions that kombu knows, under its names, bounded on decompression.
//!
//! | names | content type | format |
//! |---|---|---|
//! | `zlib`, `gzip` | `application/x-gzip` | zlib (RFC 1950), whatever the names say |
//! | `bzip2`, `bzip` | `application/x-bz2` | bzip2, one or more streams |
//! | `lzma`, `xz` | `application/x-lzma` | xz; the older .lzma is read too |
//! | `brotli` | `application/x-brotli` | brotli |
//! | `zstd`, `zstandard` | `application/zstd` | zstandard, one or more frames |
//!
//! What follows the end of the data is ignored, as Python's modules do for the first three.

use std::io::{Read, Write};

use liblzma::stream::{Check, Stream};

use crate::error::{Error, ErrorKind, Result};

/// Memory that an xz stream may ask for; its strongest preset needs 65 MiB.
const LZMA_MEMORY_BYTES: u64 = 256 << 20;

/// One of kombu's compressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// zlib, which kombu also calls gzip.
    Zlib,
    /// bzip2.
    Bzip2,
    /// xz.
    Lzma,
    /// brotli.
    Brotli,
    /// zstandard.
    Zstd,
}

impl Compression {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Zlib, Self::Bzip2, Self::Lzma, Self::Brotli, Self::Zstd];

    /// Finds a compression by kombu's name or by content type.
    pub fn from_name(name: &str) -> Result<Self> {
        match name {
            "application/x-gzip" | "gzip" | "zlib" => Ok(Self::Zlib),
            "application/x-bz2" | "bzip2" | "bzip" => Ok(Self::Bzip2),
            "application/x-lzma" | "lzma" | "xz" => Ok(Self::Lzma),
            "application/x-brotli" | "brotli" => Ok(Self::Brotli),
            "application/zstd" | "zstd" | "zstandard" => Ok(Self::Zstd),
            _ => Err(Error::new(ErrorKind::Config, format!("unknown compression {name:?}"))),
        }
    }

    /// What stands in a message's `compression` header.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Zlib => "application/x-gzip",
            Self::Bzip2 => "application/x-bz2",
            Self::Lzma => "application/x-lzma",
            Self::Brotli => "application/x-brotli",
            Self::Zstd => "application/zstd",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Zlib => "zlib",
            Self::Bzip2 => "bzip2",
            Self::Lzma => "lzma",
            Self::Brotli => "brotli",
            Self::Zstd => "zstd",
        }
    }

    /// Compresses with the settings that kombu uses.
    pub fn compress(self, data: &[u8]) -> Result<Vec<u8>> {
        self.try_compress(data).map_err(|error| {
            Error::new(
                ErrorKind::Resource,
                format!("cannot compress {} bytes with {}: {error}", data.len(), self.name()),
            )
        })
    }

    fn try_compress(self, data: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Zlib => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(data)?;
                encoder.finish()
            }
            Self::Bzip2 => {
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
                encoder.write_all(data)?;
                encoder.finish()
            }
            Self::Lzma => {
                let stream = Stream::new_easy_encoder(6, Check::Crc64).map_err(std::io::Error::other)?;
                let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
                encoder.write_all(data)?;
                encoder.finish()
            }
            Self::Brotli => {
                let mut output = Vec::new();
                let parameters = brotli::enc::BrotliEncoderParams { quality: 11, lgwin: 22, ..Default::default() };
                brotli::BrotliCompress(&mut &*data, &mut output, &parameters)?;
                Ok(output)
            }
            Self::Zstd => zstd::bulk::compress(data, zstd::DEFAULT_COMPRESSION_LEVEL),
        }
    }

    /// Decompresses to at most `max_bytes`.
    ///
    /// # Errors
    ///
    /// `TooLarge` when the data holds more than that, `Malformed` when it is damaged or cut off.
    pub fn decompress(self, packed: &[u8], max_bytes: u64) -> Result<Vec<u8>> {
        let mut output = Bounded { data: Vec::new(), max_bytes };
        let outcome = match self {
            Self::Zlib => output.read_all(flate2::bufread::ZlibDecoder::new(packed)),
            // Python's bz2 takes no bytes at all for no streams at all.
            Self::Bzip2 if packed.is_empty() => Ok(()),
            Self::Bzip2 => decompress_streams(packed, &mut output, |stream, output| {
                let mut decoder = bzip2::bufread::BzDecoder::new(stream);
                (output.read_all(&mut decoder), decoder.into_inner())
            }),
            Self::Lzma | Self::Zstd if packed.is_empty() => Err(std::io::ErrorKind::UnexpectedEof.into()),
            Self::Lzma => decompress_streams(packed, &mut output, |stream, output| {
                match Stream::new_auto_decoder(LZMA_MEMORY_BYTES, 0) {
                    Ok(state) => {
                        let mut decoder = liblzma::bufread::XzDecoder::new_stream(stream, state);
                        (output.read_all(&mut decoder), decoder.into_inner())
                    }
                    Err(error) => (Err(std::io::Error::other(error)), stream),
                }
            }),
            Self::Brotli => output.read_all(brotli::Decompressor::new(packed, 4096)),
            Self::Zstd => zstd::Decoder::with_buffer(packed).and_then(|decoder| output.read_all(decoder)),
        };
        if output.is_over() {
            let text = format!("{} data holds more than the bound of {max_bytes} bytes", self.name());
            return Err(Error::new(ErrorKind::TooLarge, text));
        }
        match outcome {
            Ok(()) => Ok(output.data),
            Err(error) => Err(Error::new(ErrorKind::Malformed, format!("damaged {} data: {error}", self.name()))),
        }
    }
}

/// Compresses under a kombu name or content type; returns the data and the content type.
pub fn compress(name: &str, data: &[u8]) -> Result<(Vec<u8>, &'static str)> {
    let compression = Compression::from_name(name)?;
    Ok((compression.compress(data)?, compression.content_type()))
}

/// Undoes a compression named by kombu name or content type. See [`Compression::decompress`].
pub fn decompress(name: &str, packed: &[u8], max_bytes: u64) -> Result<Vec<u8>> {
    Compression::from_name(name)?.decompress(packed, max_bytes)
}

/// Output that takes one byte more than allowed, so that excess shows.
struct Bounded {
    data: Vec<u8>,
    max_bytes: u64,
}

impl Bounded {
    fn read_all(&mut self, reader: impl Read) -> std::io::Result<()> {
        let left = self.max_bytes.saturating_sub(self.data.len() as u64).saturating_add(1);
        reader.take(left).read_to_end(&mut self.data).map(drop)
    }

    fn is_over(&self) -> bool {
        self.data.len() as u64 > self.max_bytes
    }
}

/// Decompresses one stream after another, like Python's `bz2` and `lzma`: what follows the first stream and
/// does not begin another is ignored.
fn decompress_streams<'a>(
    packed: &'a [u8],
    output: &mut Bounded,
    decode: impl Fn(&'a [u8], &mut Bounded) -> (std::io::Result<()>, &'a [u8]),
) -> std::io::Result<()> {
    let mut rest = packed;
    let mut is_first = true;
    while !rest.is_empty() && !output.is_over() {
        let length = output.data.len();
        let (outcome, remaining) = decode(rest, output);
        match outcome {
            Ok(()) => rest = remaining,
            Err(error) if is_first || error.kind() == std::io::ErrorKind::UnexpectedEof => return Err(error),
            Err(_) => {
                output.data.truncate(length);
                return Ok(());
            }
        }
        is_first = false;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
