import type { BenchResult, Figure } from './figures.ts'

const width = 760
const labelWidth = 300
const barHeight = 14
const groupGap = 26
const colours = ['#8a93a0', '#1f6feb', '#d97706', '#0f9d58', '#9333ea', '#c2410c']

/** One group of bars for each figure, each group with a scale of its own; an SVG document. */
export function renderChart(results: readonly BenchResult[]): string {
  const contenders = [
    ...new Set(results.flatMap(({ figures }) => figures.flatMap(({ values }) => Object.keys(values)))),
  ]
  const parts: string[] = []
  let y = 24
  for (const { bench, figures } of results) {
    parts.push(text(8, y, bench, 'font-weight="bold"'))
    y += 10
    for (const figure of figures) {
      const group = renderGroup(figure, y, contenders)
      parts.push(...group.parts)
      y = group.nextY
    }
    y += groupGap
  }
  const head = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${y}" font-family="sans-serif" font-size="11">`
  return `${head}\n<rect width="100%" height="100%" fill="white"/>\n${parts.join('\n')}\n</svg>\n`
}

function renderGroup(figure: Figure, from: number, contenders: readonly string[]) {
  const { name, unit, values, isCost } = figure
  const shown = Object.entries(values).filter(([, value]) => Number.isFinite(value))
  const most = Math.max(1e-12, ...shown.map(([, value]) => value))
  const parts = [text(16, from + barHeight, `${name}, ${unit}${isCost === true ? ' (less is better)' : ''}`)]
  let y = from + 4
  for (const [contender, value] of shown) {
    const length = Math.max(1, (value / most) * (width - labelWidth - 190))
    const colour = colours[contenders.indexOf(contender) % colours.length]
    parts.push(
      `<rect x="${labelWidth}" y="${y}" width="${length.toFixed(1)}" height="${barHeight - 3}" fill="${colour}"/>`,
    )
    parts.push(text(labelWidth + length + 6, y + barHeight - 5, `${Number(value.toPrecision(3))}  ${contender}`))
    y += barHeight
  }
  return { parts, nextY: Math.max(y, from + barHeight) + 6 }
}

function text(x: number, y: number, content: string, attributes = ''): string {
  const escaped = content.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
  return `<text x="${x.toFixed(1)}" y="${y}" ${attributes}>${escaped}</text>`
}
