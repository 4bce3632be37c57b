//! Painting with smooth edges into I420 bytes.
//!
//! A shape is its signed distance: how many pixels a point lies outside its edge (negative inside).
//! Pixels that the edge crosses are painted in part, in the luma plane and, at half the resolution,
//! in the two chroma planes.

use super::Size;

/// A point or a direction, in pixels; `y` grows downwards.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub x: f32,
    pub y: f32,
}

/// Shorthand for a point.
pub const fn at(x: f32, y: f32) -> Point {
    Point { x, y }
}

/// A colour as video wants it (ITU-R BT.601, limited range).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Colour {
    planes: [f32; 3],
}

impl Colour {
    /// From red, green and blue, 0 to 255 each.
    pub const fn rgb(red: u8, green: u8, blue: u8) -> Self {
        let (red, green, blue) = (red as f32, green as f32, blue as f32);
        Self {
            planes: [
                16.0 + 0.257 * red + 0.504 * green + 0.098 * blue,
                128.0 - 0.148 * red - 0.291 * green + 0.439 * blue,
                128.0 + 0.439 * red - 0.368 * green - 0.071 * blue,
            ],
        }
    }

    /// Between this colour (0) and another (1).
    pub fn mix(self, other: Self, share: f32) -> Self {
        let mut planes = self.planes;
        for (plane, other) in planes.iter_mut().zip(other.planes) {
            *plane += (other - *plane) * share;
        }
        Self { planes }
    }

    /// Brighter (above 1) or darker.
    pub fn lit(self, by: f32) -> Self {
        let [luma, blue, red] = self.planes;
        Self { planes: [16.0 + (luma - 16.0) * by, blue, red] }
    }
}

/// A rectangle of pixels that a shape cannot leave.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    pub left: f32,
    pub top: f32,
    pub right: f32,
    pub bottom: f32,
}

impl Area {
    /// What surrounds these points by `margin` pixels.
    pub fn around(points: &[Point], margin: f32) -> Self {
        let start = Self { left: f32::MAX, top: f32::MAX, right: f32::MIN, bottom: f32::MIN };
        let grow = |area: Self, point: &Point| Self {
            left: area.left.min(point.x - margin),
            top: area.top.min(point.y - margin),
            right: area.right.max(point.x + margin),
            bottom: area.bottom.max(point.y + margin),
        };
        points.iter().fold(start, grow)
    }
}

/// A frame to paint on.
#[derive(Debug)]
pub struct Canvas<'a> {
    /// Luma, then the two chroma planes.
    planes: [Plane<'a>; 3],
    size: Size,
}

#[derive(Debug)]
struct Plane<'a> {
    bytes: &'a mut [u8],
    width: usize,
    /// Pixels of the frame for one byte of the plane, in each direction.
    step: f32,
}

impl<'a> Canvas<'a> {
    /// A canvas over the bytes of a frame, which must be as many as the size says.
    pub fn new(frame: &'a mut [u8], size: Size) -> Self {
        let luma_bytes = (size.width() * size.height()).min(frame.len());
        let (luma, chroma) = frame.split_at_mut(luma_bytes);
        let (blue, red) = chroma.split_at_mut(chroma.len() / 2);
        let plane = |bytes, width, step| Plane { bytes, width, step };
        let planes = [
            plane(luma, size.width(), 1.0),
            plane(blue, size.width() / 2, 2.0),
            plane(red, size.width() / 2, 2.0),
        ];
        Self { planes, size }
    }

    /// In pixels.
    pub fn width(&self) -> f32 {
        self.size.width() as f32
    }

    /// In pixels.
    pub fn height(&self) -> f32 {
        self.size.height() as f32
    }

    /// Paints a shape in one colour; `opacity` from 0 to 1.
    pub fn paint(&mut self, area: Area, colour: Colour, opacity: f32, distance: impl Fn(Point) -> f32) {
        for (plane, value) in self.planes.iter_mut().zip(colour.planes) {
            let step = plane.step;
            plane.blend(area, |point| {
                let share = (0.5 - distance(point) / step).clamp(0.0, 1.0) * opacity;
                (share, value)
            });
        }
    }

    /// Gives every pixel of an area a colour of its own.
    pub fn shade(&mut self, area: Area, colour: impl Fn(Point) -> Colour) {
        for (index, plane) in self.planes.iter_mut().enumerate() {
            plane.blend(area, |point| {
                let planes = colour(point).planes;
                (1.0, planes.get(index).copied().unwrap_or_default())
            });
        }
    }

    /// A filled rectangle.
    pub fn rectangle(&mut self, left: f32, top: f32, width: f32, height: f32, colour: Colour) {
        let (centre, half) = (at(left + width / 2.0, top + height / 2.0), at(width / 2.0, height / 2.0));
        let area = Area::around(&[centre], half.x.max(half.y) + 1.0);
        let area = Area { top: top - 1.0, bottom: top + height + 1.0, ..area };
        self.paint(area, colour, 1.0, |point| {
            ((point.x - centre.x).abs() - half.x).max((point.y - centre.y).abs() - half.y)
        });
    }

    /// A filled convex shape with its corners in clockwise order.
    pub fn polygon(&mut self, corners: &[Point], colour: Colour, opacity: f32) {
        let next = corners.iter().cycle().skip(1);
        let edges: Vec<_> = corners.iter().zip(next).map(|(from, to)| edge(*from, *to)).collect();
        self.paint(Area::around(corners, 1.0), colour, opacity, |point| {
            let outside = |(normal, offset): &(Point, f32)| point.x * normal.x + point.y * normal.y - offset;
            edges.iter().map(outside).fold(f32::MIN, f32::max)
        });
    }

    /// A filled ellipse.
    pub fn ellipse(&mut self, centre: Point, radius: Point, colour: Colour, opacity: f32) {
        let smaller = radius.x.min(radius.y);
        let area = Area {
            left: centre.x - radius.x - 1.0,
            right: centre.x + radius.x + 1.0,
            top: centre.y - radius.y - 1.0,
            bottom: centre.y + radius.y + 1.0,
        };
        self.paint(area, colour, opacity, |point| {
            let (x, y) = ((point.x - centre.x) / radius.x, (point.y - centre.y) / radius.y);
            ((x * x + y * y).sqrt() - 1.0) * smaller
        });
    }

    /// A stroke with round ends, thicker or thinner towards its end.
    pub fn stroke(&mut self, from: (Point, f32), to: (Point, f32), colour: Colour) {
        let ((start, start_radius), (end, end_radius)) = (from, to);
        let (dx, dy) = (end.x - start.x, end.y - start.y);
        let squared = (dx * dx + dy * dy).max(f32::EPSILON);
        let area = Area::around(&[start, end], start_radius.max(end_radius) + 1.0);
        self.paint(area, colour, 1.0, |point| {
            let along = ((point.x - start.x) * dx + (point.y - start.y) * dy) / squared;
            let along = along.clamp(0.0, 1.0);
            let (x, y) = (point.x - start.x - along * dx, point.y - start.y - along * dy);
            (x * x + y * y).sqrt() - (start_radius + (end_radius - start_radius) * along)
        });
    }
}

impl Plane<'_> {
    /// Moves every byte of an area towards the value that `value` gives, by the share that it gives.
    fn blend(&mut self, area: Area, value: impl Fn(Point) -> (f32, f32)) {
        let step = self.step;
        let (left, right) = (cell(area.left / step), cell(area.right / step + 1.0).min(self.width));
        let (top, bottom) = (cell(area.top / step), cell(area.bottom / step + 1.0));
        let rows = self.bytes.chunks_exact_mut(self.width).enumerate();
        for (row, bytes) in rows.take(bottom).skip(top) {
            let y = (row as f32 + 0.5) * step;
            for (column, byte) in bytes.iter_mut().enumerate().take(right).skip(left) {
                let (share, value) = value(at((column as f32 + 0.5) * step, y));
                if share > 0.0 {
                    let old = f32::from(*byte);
                    *byte = rounded(old + (value - old) * share);
                }
            }
        }
    }
}

/// Outer normal of a clockwise edge, and its distance from the origin.
fn edge(from: Point, to: Point) -> (Point, f32) {
    let (dx, dy) = (to.x - from.x, to.y - from.y);
    let length = dx.hypot(dy).max(f32::EPSILON);
    let normal = at(dy / length, -dx / length);
    (normal, normal.x * from.x + normal.y * from.y)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped, and a cast saturates")]
fn cell(position: f32) -> usize {
    position.clamp(0.0, 16_384.0) as usize
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped, and a cast saturates")]
fn rounded(value: f32) -> u8 {
    (value + 0.5).clamp(0.0, 255.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WHITE: Colour = Colour::rgb(255, 255, 255);

    fn size() -> Size {
        Size::try_new(160, 120).unwrap()
    }

    fn luma_sum(paint: impl FnOnce(&mut Canvas<'_>)) -> f32 {
        let mut frame = vec![0; size().frame_bytes()];
        paint(&mut Canvas::new(&mut frame, size()));
        frame[..160 * 120].iter().map(|byte| f32::from(*byte)).sum::<f32>() / 235.0
    }

    #[test]
    fn shapes_cover_the_area_that_geometry_says() {
        let near = |painted: f32, expected: f32| (painted - expected).abs() < expected * 0.03;
        assert!(near(luma_sum(|canvas| canvas.rectangle(10.0, 10.0, 30.5, 20.0, WHITE)), 610.0));
        let corners = [at(20.0, 20.0), at(60.0, 20.0), at(60.0, 60.0)];
        assert!(near(luma_sum(|canvas| canvas.polygon(&corners, WHITE, 1.0)), 800.0));
        let circle = luma_sum(|canvas| canvas.ellipse(at(80.0, 60.0), at(20.0, 20.0), WHITE, 1.0));
        assert!(near(circle, 1256.6), "{circle}");
        let stroke = luma_sum(|canvas| canvas.stroke((at(20.0, 20.0), 5.0), (at(100.0, 20.0), 5.0), WHITE));
        assert!(near(stroke, 878.5), "{stroke}");
    }

    #[test]
    fn colours_stay_within_the_range_of_video() {
        assert!((WHITE.planes[0] - 235.0).abs() < 1.0);
        assert!((Colour::rgb(0, 0, 0).planes[0] - 16.0).abs() < 1.0);
        let red = Colour::rgb(255, 0, 0).planes;
        assert!(red[2] > 230.0 && red[1] < 128.0);
    }

    proptest! {
        #[test]
        fn painting_outside_the_frame_does_nothing_worse(x in -500.0_f32..500.0, y in -500.0_f32..500.0) {
            let _ = luma_sum(|canvas| {
                canvas.ellipse(at(x, y), at(30.0, 10.0), WHITE, 0.5);
                canvas.rectangle(x, y, 50.0, 50.0, WHITE);
                canvas.stroke((at(x, y), 3.0), (at(y, x), 1.0), WHITE);
            });
        }
    }
}
