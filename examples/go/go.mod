module pulsewire.example/eventflow

go 1.21
