/** Writes lines to an output, many at a time. */
export interface LineWriter extends Disposable {
  readonly write: (line: string) => void
}

const gatherMs = 100
const mostGathered = 65_536

/** Gathers lines for a tenth of a second, so that a busy log costs few writes; disposal writes the rest. */
export function createLineWriter(out: (text: string) => void): LineWriter {
  let gathered = ''
  let timer: NodeJS.Timeout | undefined
  const flush = () => {
    clearTimeout(timer)
    timer = undefined
    const text = gathered
    gathered = ''
    if (text !== '') out(text)
  }
  return {
    write(line) {
      gathered += line
      if (gathered.length >= mostGathered) flush()
      else timer ??= setTimeout(flush, gatherMs)
    },
    [Symbol.dispose]: flush,
  }
}
