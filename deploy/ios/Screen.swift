// Preparation and decision for an exported model on iOS: plain Swift, no runtime and no UIKit in it.
// What each step does and why stands in worker/imaging/prepare.py and worker/inference/decide.py;
// docs/EXPORT.md has the calls of ONNX Runtime and ExecuTorch that go between the two.

import Foundation

/// Grey levels, 255 brightest, row by row.
struct Film {
    var levels: [UInt8]
    var rows: Int
    var columns: Int
}

/// The card, of exactly the file that answers: `JSONDecoder().decode(Card.self, from: json)`.
/// `weights.sha256` is that file's, to be checked before it is opened.
struct Card: Decodable {
    struct Weights: Decodable { let sha256: String }
    struct Export: Decodable { let precision: String }
    struct Input: Decodable { let size_px: Int, low_percentile: Double, high_percentile: Double }
    struct Guard: Decodable { let threshold: Double }
    struct Decision: Decodable { let threshold: Double, indeterminate: [Double] }
    let weights: Weights
    let export: Export
    let input: Input
    let `guard`: Guard
    let decision: Decision
    let labels: [String]
}

/// A refused film has no probability and no heat map: nobody can show what is not handed on.
/// An int8 file's heat map may be far off: it has none.
enum Answer {
    case refused(reason: String)
    case answered(decision: String, probability: Float, heatMap: [Float]?)
}

struct NotANumber: Error {}

/// The model's input, size_px × size_px in [0, 1], row by row.
func modelInput(_ film: Film, _ card: Card) -> [Float] {
    let size = card.input.size_px
    var small = film
    var (height, width) = (Double(film.rows), Double(film.columns))
    while min(small.rows, small.columns) >= 4 * size {
        small = halve(small)
        height /= 2
        width /= 2
    }
    let square = squash(small, height, width, size).map { $0 / 255 }
    let ordered = square.sorted()
    let low = percentile(ordered, card.input.low_percentile)
    let high = percentile(ordered, card.input.high_percentile)
    if high - low < 1e-6 { return [Float](repeating: 0, count: square.count) }
    return square.map { Float(min(1, max(0, (Double($0) - low) / (high - low)))) }
}

/// The guard first, then the abstention band, then the threshold.
func decide(
    probability: Float, heatMap: [Float], guardScore: Float, notChestScore: Float, _ card: Card
) throws -> Answer {
    guard (heatMap + [probability, guardScore, notChestScore]).allSatisfy({ $0.isFinite }) else {
        throw NotANumber()  // which lies below every threshold
    }
    if Double(guardScore) > card.guard.threshold {
        let isChest = notChestScore <= 0.5
        return .refused(reason: isChest ? "outside-validated-population" : "not-a-chest-radiograph")
    }
    let (value, band) = (Double(probability), card.decision.indeterminate)
    var decision = value >= card.decision.threshold ? card.labels[1] : card.labels[0]
    if band[0] < value && value < band[1] { decision = "INDETERMINATE" }
    let shown = card.export.precision == "int8" ? nil : heatMap
    return .answered(decision: decision, probability: probability, heatMap: shown)
}

/// What the pixels alone forbid, before any model is asked; or nil.
func pixelRefusal(_ film: Film) -> Answer? {
    if min(film.rows, film.columns) < 100 { return .refused(reason: "too-small") }
    var small = film
    while min(small.rows, small.columns) >= 128 { small = halve(small) }
    let ordered = small.levels.sorted().map { Float($0) }
    if percentile(ordered, 99.5) - percentile(ordered, 0.5) < 0.02 * 255 {
        return .refused(reason: "blank-picture")
    }
    return looksInverted(small) ? .refused(reason: "polarity-unsure") : nil
}

/// Linear between two of the ordered pixels.
private func percentile(_ ordered: [Float], _ percent: Double) -> Double {
    let place = Double(ordered.count - 1) * percent / 100
    let below = Int(place)
    let (low, high) = (Double(ordered[below]), Double(ordered[min(below + 1, ordered.count - 1)]))
    return low + (high - low) * (place - Double(below))
}

/// The rounded mean of each 2 × 2 block; an odd last line counts twice.
private func halve(_ film: Film) -> Film {
    let (rows, columns) = ((film.rows + 1) / 2, (film.columns + 1) / 2)
    var half = Film(levels: [UInt8](repeating: 0, count: rows * columns), rows: rows, columns: columns)
    for row in 0..<rows {
        let upper = 2 * row * film.columns
        let lower = min(2 * row + 1, film.rows - 1) * film.columns
        for column in 0..<columns {
            let (left, right) = (2 * column, min(2 * column + 1, film.columns - 1))
            let block = [upper + left, upper + right, lower + left, lower + right]
            let sum = block.reduce(0) { $0 + Int(film.levels[$1]) }
            half.levels[row * columns + column] = UInt8((sum + 2) / 4)
        }
    }
    return half
}

/// Pillow's antialiased BILINEAR on floats: along the rows first, then down.
private func squash(_ film: Film, _ height: Double, _ width: Double, _ size: Int) -> [Float] {
    var narrow = [Float](repeating: 0, count: film.rows * size)
    for to in 0..<size {
        let (first, weights) = triangle(film.columns, width, size, to)
        for row in 0..<film.rows {
            var sum = 0.0
            for (k, weight) in weights.enumerated() {
                sum += weight * Double(film.levels[row * film.columns + first + k])
            }
            narrow[row * size + to] = Float(sum)
        }
    }
    var square = [Float](repeating: 0, count: size * size)
    for to in 0..<size {
        let (first, weights) = triangle(film.rows, height, size, to)
        for column in 0..<size {
            var sum = 0.0
            for (k, weight) in weights.enumerated() {
                sum += weight * Double(narrow[(first + k) * size + column])
            }
            square[to * size + column] = Float(sum)
        }
    }
    return square
}

/// The first pixel that pixel `to` of the result takes from, and weights that add up to 1.
private func triangle(_ pixels: Int, _ span: Double, _ size: Int, _ to: Int) -> (Int, [Double]) {
    let scale = span / Double(size)
    let reach = max(scale, 1)
    let centre = (Double(to) + 0.5) * scale
    let first = max(0, Int(centre - reach + 0.5))
    let end = min(pixels, Int(centre + reach + 0.5))
    let weights = (first..<end).map { max(0, 1 - abs(Double($0) + 0.5 - centre) / reach) }
    let sum = weights.reduce(0, +)
    return (first, weights.map { $0 / sum })
}

// Left half of the mean chest film in standard deviations: see worker/imaging/polarity.py.
private let leftHalf: [[Double]] = [
    [-1.8, -1.3, -0.6, 0.5], [-0.9, 0.0, -0.2, 0.3], [-0.7, 0.2, -0.6, 0.4], [-0.9, 0.1, -0.6, 0.8],
    [-1.1, -0.1, -0.1, 1.2], [-1.3, -0.1, 0.4, 1.4], [-1.5, 0.4, 1.2, 1.7], [-1.4, 0.9, 1.7, 2.0],
]

/// Whether a chest film is surely shown as its negative, upright or upside down.
private func looksInverted(_ film: Film) -> Bool {
    let small = (0..<64).map { meanOf(film, row: $0 / 8, column: $0 % 8) }
    let chest = leftHalf.flatMap { $0 + $0.reversed() }
    let upright = correlation(small, chest)
    let turned = correlation(small, Array(chest.reversed()))
    return upright < -0.3 || (turned < -0.3 && -turned > upright + 0.2)
}

/// The mean over one of 8 × 8 parts of the film; pixels on its edges count in part.
private func meanOf(_ film: Film, row: Int, column: Int) -> Double {
    func share(_ pixel: Int, _ part: Int, _ pixels: Int) -> Double {
        let (start, end) = (Double(part * pixels) / 8, Double((part + 1) * pixels) / 8)
        return max(0, min(end, Double(pixel + 1)) - max(start, Double(pixel)))
    }
    var (sum, total) = (0.0, 0.0)
    for y in film.rows * row / 8..<min(film.rows, film.rows * (row + 1) / 8 + 1) {
        for x in film.columns * column / 8..<min(film.columns, film.columns * (column + 1) / 8 + 1) {
            let weight = share(y, row, film.rows) * share(x, column, film.columns)
            sum += weight * Double(film.levels[y * film.columns + x])
            total += weight
        }
    }
    return sum / total
}

private func correlation(_ one: [Double], _ other: [Double]) -> Double {
    func centred(_ values: [Double]) -> [Double] {
        let mean = values.reduce(0, +) / Double(values.count)
        return values.map { $0 - mean }
    }
    func product(_ x: [Double], _ y: [Double]) -> Double { zip(x, y).map(*).reduce(0, +) }
    let (a, b) = (centred(one), centred(other))
    let norm = (product(a, a) * product(b, b)).squareRoot()
    return norm < 1e-6 ? 0 : product(a, b) / norm
}
