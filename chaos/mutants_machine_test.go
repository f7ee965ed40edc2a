package chaos

// Bugs that show on odd machines only: other files in the place of memory, sandboxes,
// file systems that stall, limits of memory.
func init() {
	mutants = append(mutants, []mutant{
		{"memory of any file", "TestT1AGrantedFile", []edit{{"segment_linux.go",
			"	if uint32(system.Type) != unix.TMPFS_MAGIC { //",
			"	if system.Type == 1 { //"}}},
		{"memory with holes", "TestT1AGrantedFile", []edit{{"segment_linux.go",
			"	case stat.Blocks*512 < size:\n",
			"	case stat.Blocks*512 < size && false:\n"}}},
		{"memory that its owner cannot write", "TestT1AGrantedFile", []edit{{"segment_linux.go",
			"seals&^unix.F_SEAL_EXEC != want {\n",
			"seals&want != want {\n"}}},
		{"a mapping where a huge page fits", "TestT1AMapping", []edit{{"segment_linux.go",
			"	if uintptr(base)%(2*page) == 0 {\n",
			"	if false {\n"}}},
		{"the beat waits for the path", "TestL6AFileSystem", []edit{{"heartbeat.go",
			"		go func() {\n			defer e.looking",
			"		func() {\n			defer e.looking"}}},
		{"Close waits for a look", "TestL6AFileSystem", []edit{{"heartbeat.go",
			"			defer e.looking.Store(false)\n",
			"			e.workers.Add(1)\n			defer e.workers.Done()\n			defer e.looking.Store(false)\n"}}},
		{"a look at one's own Close", "TestC5ALook", []edit{{"server.go",
			"	if s.lost && !s.e.closing.Load() {",
			"	if s.lost {"}}},
		{"the beat waits for a lock", "TestL6TheBeat", []edit{{"heartbeat.go",
			"	if !e.mu.TryLock() {",
			"	if e.mu.Lock(); false {"}}},
		{"the beat ends before Close does", "TestL6AServerThatCloses", []edit{{"heartbeat.go",
			"		case <-e.resting:\n",
			"		case <-e.closed:\n"}}},
	}...)
}
