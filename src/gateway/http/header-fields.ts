/** Names are kept as they were written next to their lower-case form, so that backends see what clients sent. */
export class HeaderFields {
  readonly names: string[] = []
  readonly lowerNames: string[] = []
  readonly values: string[] = []
  #rendered: string | undefined
  /** The part of these fields that the next hop gets, once that is known; messages with the same head share it. */
  forwarded: HeaderFields | undefined

  /** The fields of a plain object; for answers of our own and for tests. */
  static of(fields: Readonly<Record<string, string>>): HeaderFields {
    const headers = new HeaderFields()
    for (const [name, value] of Object.entries(fields)) headers.add(name, name.toLowerCase(), value)
    return headers
  }

  get size(): number {
    return this.names.length
  }

  add(name: string, lowerName: string, value: string): void {
    this.#rendered = undefined
    this.names.push(name)
    this.lowerNames.push(lowerName)
    this.values.push(value)
  }

  /** The first value; undefined when there is none. */
  get(lowerName: string): string | undefined {
    const index = this.lowerNames.indexOf(lowerName)
    return index === -1 ? undefined : this.values[index]
  }

  /** All values, joined as RFC 9110 allows; undefined when there is none. */
  joined(lowerName: string): string | undefined {
    let joined: string | undefined
    for (let index = 0; index < this.lowerNames.length; index++) {
      if (this.lowerNames[index] !== lowerName) continue
      const value = this.values[index] ?? ''
      joined = joined === undefined ? value : `${joined}, ${value}`
    }
    return joined
  }

  has(lowerName: string): boolean {
    return this.lowerNames.includes(lowerName)
  }

  /** Adds all fields of another message. */
  addAll(others: HeaderFields): void {
    others.forEach((name, lowerName, value) => {
      this.add(name, lowerName, value)
    })
  }

  /** Replaces all fields of that name by one. */
  set(name: string, lowerName: string, value: string): void {
    this.delete(lowerName)
    this.add(name, lowerName, value)
  }

  delete(lowerName: string): void {
    this.#rendered = undefined
    for (let index = this.lowerNames.indexOf(lowerName); index !== -1; index = this.lowerNames.indexOf(lowerName)) {
      this.names.splice(index, 1)
      this.lowerNames.splice(index, 1)
      this.values.splice(index, 1)
    }
  }

  /** The same fields, to be changed. */
  copy(): HeaderFields {
    const copy = new HeaderFields()
    copy.addAll(this)
    return copy
  }

  /** Calls back with every field, in order. */
  forEach(visit: (name: string, lowerName: string, value: string) => void): void {
    for (let index = 0; index < this.names.length; index++) {
      visit(this.names[index] ?? '', this.lowerNames[index] ?? '', this.values[index] ?? '')
    }
  }

  /** The fields as lines of a head, each ended. */
  render(): string {
    if (this.#rendered !== undefined) return this.#rendered
    let text = ''
    for (let index = 0; index < this.names.length; index++) text += `${this.names[index]}: ${this.values[index]}\r\n`
    this.#rendered = text
    return text
  }
}
