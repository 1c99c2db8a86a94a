//! What an image's first bytes tell about it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;

use imagesize::ImageType;

use crate::store::Metadata;

/// What `${imageInfo.…}` can say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageInfo {
    pub(crate) width: u64,
    pub(crate) height: u64,
    /// As OSS names it: `jpg`, `png`, `gif`, `webp` or `bmp`.
    pub(crate) format: &'static str,
}

/// What an object turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Probed {
    /// An image.
    Image(ImageInfo),
    /// No image, and it does not claim to be one.
    NoImage,
    /// It claims to be an image by its content type, and cannot be read as one.
    Unreadable,
}

/// Looks at a file's first bytes.
pub(crate) async fn probe(path: &Path, metadata: &Metadata) -> io::Result<Probed> {
    let file = File::open(path)?;
    let read = tokio::task::spawn_blocking(move || read(BufReader::new(file)));
    let image = read.await.map_err(io::Error::other)?;
    let claims = metadata.described.content_type.to_ascii_lowercase().starts_with("image/");
    Ok(match image {
        Some(image) => Probed::Image(image),
        None if claims => Probed::Unreadable,
        None => Probed::NoImage,
    })
}

fn read(mut file: impl BufRead + Seek) -> Option<ImageInfo> {
    let format = match imagesize::reader_type(&mut file).ok()? {
        ImageType::Bmp => "bmp",
        ImageType::Gif => "gif",
        ImageType::Jpeg => "jpg",
        ImageType::Png => "png",
        ImageType::Webp => "webp",
        _ => return None,
    };
    file.seek(SeekFrom::Start(0)).ok()?;
    let size = imagesize::reader_size(file).ok()?;
    Some(ImageInfo { width: size.width as u64, height: size.height as u64, format })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_have_the_names_that_oss_gives_them() {
        let gif = b"GIF89a\x03\x00\x02\x00\x80\x00\x00;";
        let bmp = b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x03\0\0\0\x02\0\0\0\x01\0\x18\0\0\0\0\0";
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x03\0\0\0\x02\x08\x02\0\0\0\0\0\0\0";
        let jpg = b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0\xff\xc0\0\x11\x08\0\x02\0\x03\x03\x01\x22\0\x02\x11\x01\x03\x11\x01";
        let webp = b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f\x02\x40\0\0\0\0\0\0\0\0\0\0\0";
        for (bytes, format) in
            [(&gif[..], "gif"), (&bmp[..], "bmp"), (&png[..], "png"), (&jpg[..], "jpg"), (&webp[..], "webp")]
        {
            let read = read(io::Cursor::new(bytes));
            assert_eq!(read, Some(ImageInfo { width: 3, height: 2, format }), "{format}");
        }
    }

    #[test]
    fn text_is_no_image() {
        assert_eq!(read(io::Cursor::new(b"hello, world: this is no image at all")), None);
        assert_eq!(read(io::Cursor::new(b"")), None);
    }
}
