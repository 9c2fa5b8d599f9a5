// Preparation and decision for an exported model on Android: plain Kotlin, no runtime and no Android
// in it. What each step does and why stands in worker/imaging/prepare.py and worker/inference/decide.py;
// docs/EXPORT.md has the calls of ONNX Runtime, LiteRT and ExecuTorch that go between the two.

import kotlin.math.abs
import kotlin.math.max
import kotlin.math.min

/** Grey levels from 0 to 255, 255 brightest, row by row. */
class Film(val levels: IntArray, val rows: Int, val columns: Int)

/** The card's constants, of exactly the file whose SHA-256 it names: check that before you open it. */
class Card(
    val sha256: String, val isInt8: Boolean,
    val sizePx: Int, val lowPercentile: Double, val highPercentile: Double, val guardThreshold: Double,
    val threshold: Double, val indeterminate: Pair<Double, Double>, val labels: Pair<String, String>,
)

/** A refused film has no probability and no heat map: nobody can show what is not handed on.
 * An int8 file's heat map may be far off: it has none. */
sealed class Answer
class Refused(val reason: String) : Answer()
class Answered(val decision: String, val probability: Float, val heatMap: FloatArray?) : Answer()

/** The model's input, sizePx × sizePx in [0, 1], row by row. */
fun modelInput(film: Film, card: Card): FloatArray {
    var (small, height, width) = Triple(film, film.rows.toDouble(), film.columns.toDouble())
    while (min(small.rows, small.columns) >= 4 * card.sizePx) {
        small = halve(small)
        height /= 2
        width /= 2
    }
    val square = squash(small, height, width, card.sizePx)
    for (pixel in square.indices) square[pixel] /= 255f
    val ordered = square.sortedArray()
    val low = percentile(ordered, card.lowPercentile)
    val high = percentile(ordered, card.highPercentile)
    if (high - low < 1e-6) return FloatArray(square.size)
    return FloatArray(square.size) { ((square[it] - low) / (high - low)).coerceIn(0.0, 1.0).toFloat() }
}

/** The guard first, then the abstention band, then the threshold. */
fun decide(
    probability: Float, heatMap: FloatArray, guardScore: Float, notChestScore: Float, card: Card,
): Answer {
    val numbers = heatMap + floatArrayOf(probability, guardScore, notChestScore)
    require(numbers.all { it.isFinite() }) { "the answer is not a number" } // NaN lies below every threshold
    if (guardScore > card.guardThreshold) {
        return Refused(if (notChestScore > 0.5) "not-a-chest-radiograph" else "outside-validated-population")
    }
    val (low, high) = card.indeterminate
    val decision = when {
        probability > low && probability < high -> "INDETERMINATE"
        probability >= card.threshold -> card.labels.second
        else -> card.labels.first
    }
    return Answered(decision, probability, if (card.isInt8) null else heatMap)
}

/** What the pixels alone forbid, before any model is asked; or null. */
fun pixelRefusal(film: Film): Refused? {
    if (min(film.rows, film.columns) < 100) return Refused("too-small")
    var small = film
    while (min(small.rows, small.columns) >= 128) small = halve(small)
    val ordered = FloatArray(small.levels.size) { small.levels[it].toFloat() }.apply { sort() }
    if (percentile(ordered, 99.5) - percentile(ordered, 0.5) < 0.02 * 255) return Refused("blank-picture")
    return if (looksInverted(small)) Refused("polarity-unsure") else null
}

/** Linear between two of the ordered pixels. */
private fun percentile(ordered: FloatArray, percent: Double): Double {
    val place = (ordered.size - 1) * percent / 100
    val below = place.toInt()
    val above = min(below + 1, ordered.size - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
}

/** The rounded mean of each 2 × 2 block; an odd last line counts twice. */
private fun halve(film: Film): Film {
    val (rows, columns) = Pair((film.rows + 1) / 2, (film.columns + 1) / 2)
    return Film(IntArray(rows * columns) {
        val (upper, left) = Pair(it / columns * 2, it % columns * 2)
        val (lower, right) = Pair(min(upper + 1, film.rows - 1), min(left + 1, film.columns - 1))
        fun level(row: Int, column: Int) = film.levels[row * film.columns + column]
        (level(upper, left) + level(upper, right) + level(lower, left) + level(lower, right) + 2) shr 2
    }, rows, columns)
}

/** Pillow's antialiased BILINEAR on floats: along the rows first, then down. */
private fun squash(film: Film, height: Double, width: Double, size: Int): FloatArray {
    val narrow = FloatArray(film.rows * size)
    for (to in 0 until size) {
        val (first, weights) = triangle(film.columns, width, size, to)
        for (row in 0 until film.rows) {
            var sum = 0.0
            for (k in weights.indices) sum += weights[k] * film.levels[row * film.columns + first + k]
            narrow[row * size + to] = sum.toFloat()
        }
    }
    val square = FloatArray(size * size)
    for (to in 0 until size) {
        val (first, weights) = triangle(film.rows, height, size, to)
        for (column in 0 until size) {
            var sum = 0.0
            for (k in weights.indices) sum += weights[k] * narrow[(first + k) * size + column]
            square[to * size + column] = sum.toFloat()
        }
    }
    return square
}

/** The first pixel that pixel `to` of the result takes from, and weights that add up to 1. */
private fun triangle(pixels: Int, span: Double, size: Int, to: Int): Pair<Int, DoubleArray> {
    val scale = span / size
    val reach = max(scale, 1.0)
    val centre = (to + 0.5) * scale
    val first = max(0, (centre - reach + 0.5).toInt())
    val end = min(pixels, (centre + reach + 0.5).toInt())
    val weights = DoubleArray(end - first) { max(0.0, 1 - abs(first + it + 0.5 - centre) / reach) }
    val sum = weights.sum()
    return Pair(first, DoubleArray(weights.size) { weights[it] / sum })
}

// Left half of the mean chest film in standard deviations: see worker/imaging/polarity.py.
private val LEFT_HALF = arrayOf(
    doubleArrayOf(-1.8, -1.3, -0.6, 0.5), doubleArrayOf(-0.9, 0.0, -0.2, 0.3),
    doubleArrayOf(-0.7, 0.2, -0.6, 0.4), doubleArrayOf(-0.9, 0.1, -0.6, 0.8),
    doubleArrayOf(-1.1, -0.1, -0.1, 1.2), doubleArrayOf(-1.3, -0.1, 0.4, 1.4),
    doubleArrayOf(-1.5, 0.4, 1.2, 1.7), doubleArrayOf(-1.4, 0.9, 1.7, 2.0),
)

/** Whether a chest film is surely shown as its negative, upright or upside down. */
private fun looksInverted(film: Film): Boolean {
    val small = DoubleArray(64) { meanOf(film, it / 8, it % 8) }
    val chest = LEFT_HALF.flatMap { half -> half.toList() + half.reversed() }.toDoubleArray()
    val upright = correlation(small, chest)
    val turned = correlation(small, chest.reversedArray())
    return upright < -0.3 || (turned < -0.3 && -turned > upright + 0.2)
}

/** The mean over one of 8 × 8 parts of the film; pixels on its edges count in part. */
private fun meanOf(film: Film, row: Int, column: Int): Double {
    fun share(pixel: Int, part: Int, pixels: Int) =
        max(0.0, min((part + 1) * pixels / 8.0, pixel + 1.0) - max(part * pixels / 8.0, pixel.toDouble()))
    var (sum, total) = Pair(0.0, 0.0)
    for (y in film.rows * row / 8 until min(film.rows, film.rows * (row + 1) / 8 + 1)) {
        for (x in film.columns * column / 8 until min(film.columns, film.columns * (column + 1) / 8 + 1)) {
            val weight = share(y, row, film.rows) * share(x, column, film.columns)
            sum += weight * film.levels[y * film.columns + x]
            total += weight
        }
    }
    return sum / total
}

private fun correlation(one: DoubleArray, other: DoubleArray): Double {
    fun centred(values: DoubleArray) = values.average().let { mean -> DoubleArray(values.size) { values[it] - mean } }
    fun product(x: DoubleArray, y: DoubleArray) = x.indices.sumOf { x[it] * y[it] }
    val (a, b) = Pair(centred(one), centred(other))
    val norm = kotlin.math.sqrt(product(a, a) * product(b, b))
    return if (norm < 1e-6) 0.0 else product(a, b) / norm
}
